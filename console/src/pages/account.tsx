// Who I am, what I may do, and where else I am signed in.
import { useEffect, useState } from "preact/hooks";

import { roles, tokens, users } from "../contract";
import { type Trouble, isSessionOver, troubleOf } from "../failures";
import type { WhoAmIResponse } from "../generated/tenantry/v1/role_service_pb";
import { type Token, TokenKind } from "../generated/tenantry/v1/token_service_pb";
import type { User } from "../generated/tenantry/v1/user_service_pb";
import { Fact, Facts, Heading, Link, TroubleBox } from "../parts";
import { SECOND_FACTOR } from "../routing";
import { ago, moment, useNow } from "../times";
import { roleWord } from "../words";

interface Account {
  readonly viewer: WhoAmIResponse;
  readonly user: User | undefined;
  readonly tokens: readonly Token[];
}

export function AccountPage() {
  const [account, setAccount] = useState<Account>();
  const [trouble, setTrouble] = useState<Trouble>();
  const [said, setSaid] = useState("");
  const now = useNow();

  async function load(): Promise<void> {
    try {
      const [viewer, user, own] = await Promise.all([roles.whoAmI({}), users.getUser({}), allTokens()]);
      setAccount({ viewer, user: user.user, tokens: own });
    } catch (error) {
      if (!isSessionOver(error)) setTrouble(troubleOf(error));
    }
  }
  useEffect(() => void load(), []);

  async function end(token: Token): Promise<void> {
    setTrouble(undefined);
    try {
      await tokens.revokeToken({ id: token.id });
      setSaid(token.kind === TokenKind.SESSION ? `The session ${token.id} is ended.` : `The token ${token.name} is revoked.`);
    } catch (error) {
      setTrouble(troubleOf(error));
    }
    await load();
  }

  return (
    <>
      <Heading>Account</Heading>
      {trouble === undefined ? null : <TroubleBox trouble={trouble} />}
      <p role="status" class="said">
        {said}
      </p>
      {account === undefined ? null : (
        <>
          <Facts>
            <Fact name="Name">{account.viewer.user}</Fact>
            <Fact name="Displayed as">{account.user?.displayName}</Fact>
            <Fact name="Mail">{account.user?.email}</Fact>
            <Fact name="Signs in at">{account.user?.issuer}</Fact>
            <Fact name="Last sign-in">{moment(account.user?.lastSignInTime)}</Fact>
            <Fact name="Second factor">
              {account.user?.hasPassword ? (
                <>
                  {secondFactor(account.user)} <Link to={SECOND_FACTOR}>{account.user.secondFactor ? "Take away" : "Set up"}</Link>
                </>
              ) : null}
            </Fact>
            <Fact name="This session ends">{moment(account.viewer.expireTime)}</Fact>
          </Facts>
          <Roles viewer={account.viewer} />
          <section aria-labelledby="sessions">
            <h2 id="sessions">Sessions and tokens</h2>
            <div class="scroll">
              <table>
                <thead>
                  <tr>
                    <th scope="col">What</th>
                    <th scope="col">Begun</th>
                    <th scope="col">Last used</th>
                    <th scope="col">Ends</th>
                    <th scope="col">
                      <span class="unseen">Action</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {account.tokens.map((token) => (
                    <tr key={token.id}>
                      <td>{token.kind === TokenKind.SESSION ? `Session ${token.id}` : `Token ${token.name}`}</td>
                      <td>{moment(token.createTime)}</td>
                      <td>{ago(token.lastUseTime, now)}</td>
                      <td>{token.expireTime === undefined ? "never" : moment(token.expireTime)}</td>
                      <td>
                        {token.id === account.viewer.tokenId ? (
                          "this one"
                        ) : (
                          <button type="button" onClick={() => void end(token)}>
                            {token.kind === TokenKind.SESSION ? "End" : "Revoke"}
                            <span class="unseen">
                              {" "}
                              {token.kind === TokenKind.SESSION ? `session ${token.id}` : `token ${token.name}`}
                            </span>
                          </button>
                        )}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </section>
        </>
      )}
    </>
  );
}

function Roles({ viewer }: { viewer: WhoAmIResponse }) {
  return (
    <section aria-labelledby="roles">
      <h2 id="roles">Roles</h2>
      {viewer.bindings.length === 0 ? (
        <p>You have no role: an administrator gives them.</p>
      ) : (
        <ul>
          {viewer.bindings.map((binding) => (
            <li key={`${binding.role} ${binding.owner}`}>
              {roleWord(binding.role)}, {ownerWord(binding.owner, binding.tenantName, binding.instanceName)}
              {binding.subject?.subject.case === "group" ? ` (group ${binding.subject.subject.value})` : ""}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function ownerWord(owner: string, tenantName: string, instanceName: string): string {
  if (owner === "main") return "on this Master";
  if (owner === "shared") return "for what is shared";
  return tenantName === "" ? `at ${owner}` : `at ${tenantName} / ${instanceName}`;
}

function secondFactor(user: User): string {
  return user.secondFactor ? `in force, ${user.recoveryCodesLeft} recovery codes left` : "none";
}

async function allTokens(): Promise<Token[]> {
  const found: Token[] = [];
  let pageToken = "";
  do {
    const page = await tokens.listTokens({ pageToken });
    found.push(...page.tokens);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}
