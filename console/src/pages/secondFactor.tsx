// Setting up a second factor, and taking it away.
import type { ComponentChildren, TargetedInputEvent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { encode } from "uqr";

import { roles, sessions, users } from "../contract";
import { type Trouble, isSessionOver, troubleOf } from "../failures";
import type { EnrolSecondFactorResponse } from "../generated/tenantry/v1/user_service_pb";
import { Heading, TroubleBox } from "../parts";
import { ACCOUNT, type Place, SIGN_IN, go, wanted } from "../routing";

type Step =
  | { readonly name: "begin" | "remove" }
  | { readonly name: "confirm"; readonly enrolled: EnrolSecondFactorResponse }
  | { readonly name: "keep"; readonly codes: readonly string[] };

export function SecondFactorPage({ place }: { place: Place }) {
  const [step, setStep] = useState<Step>();
  const [required, setRequired] = useState(false);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<Trouble>();

  async function attempt(work: () => Promise<Step | undefined>): Promise<void> {
    setBusy(true);
    setTrouble(undefined);
    try {
      const next = await work();
      if (next !== undefined) setStep(next);
      setTyped("");
    } catch (error) {
      if (!isSessionOver(error)) setTrouble(troubleOf(error));
    } finally {
      setBusy(false);
    }
  }

  useEffect(() => {
    void attempt(async () => {
      const [viewer, { user }] = await Promise.all([roles.whoAmI({}), users.getUser({})]);
      // A session that may do nothing at all is one that this Master wants a second factor for.
      setRequired(viewer.permissionsNarrowed && viewer.permissions.length === 0);
      return { name: user?.secondFactor ? "remove" : "begin" };
    });
  }, []);

  function enrol(): Promise<void> {
    return attempt(async () => ({ name: "confirm", enrolled: await users.enrolSecondFactor({ password: typed }) }));
  }
  function confirm(): Promise<void> {
    return attempt(async () => ({ name: "keep", codes: (await users.confirmSecondFactor({ code: typed.trim() })).recoveryCodes }));
  }
  function remove(): Promise<void> {
    return attempt(async () => {
      await users.removeSecondFactor({ code: typed.trim() });
      go(ACCOUNT, { replace: true });
      return undefined;
    });
  }
  function finish(): Promise<void> {
    return attempt(async () => {
      if (required) {
        await sessions.signOut({});
        go(`${SIGN_IN}?why=enrolled&to=${encodeURIComponent(wanted(place.query))}`, { replace: true });
      } else go(ACCOUNT, { replace: true });
      return undefined;
    });
  }

  const form = { typed, setTyped, busy };
  return (
    <div class="steps">
      <Heading>Second factor</Heading>
      {required && step?.name !== "keep" ? (
        <p role="status">This Master requires a second factor. Until there is one, you may do nothing else here.</p>
      ) : null}
      {trouble === undefined ? null : <TroubleBox trouble={trouble} />}
      {step?.name === "begin" ? (
        <Form {...form} label="Your password" type="password" autocomplete="current-password" action="Begin" onSend={enrol}>
          <p>An authenticator on your telephone shows a new code every 30 seconds; from then on signing in needs your password and a code.</p>
        </Form>
      ) : null}
      {step?.name === "confirm" ? (
        <Form {...form} label="Code that the authenticator shows" type="text" autocomplete="one-time-code" action="Put in force" onSend={confirm}>
          <p>Let your authenticator read this, or type the secret into it. It is shown only now.</p>
          <QrCode text={step.enrolled.otpauthUri} />
          <p>
            <code class="secret">{step.enrolled.secret}</code>
          </p>
        </Form>
      ) : null}
      {step?.name === "keep" ? (
        <>
          <p role="status">
            The second factor is in force, and your other sessions are ended. Each of these recovery codes stands in for the authenticator once.
            Keep them where the telephone is not; they are shown only now.
          </p>
          <ul class="codes" aria-label="Recovery codes">
            {step.codes.map((code) => (
              <li key={code}>
                <code>{code}</code>
              </li>
            ))}
          </ul>
          <button type="button" class="main" disabled={busy} onClick={() => void finish()}>
            I have kept them
          </button>
        </>
      ) : null}
      {step?.name === "remove" ? (
        <Form {...form} label="Code, or a recovery code" type="text" autocomplete="one-time-code" action="Take it away" onSend={remove}>
          <p>After that your password alone signs you in. Your other sessions are ended.</p>
        </Form>
      ) : null}
    </div>
  );
}

interface FormProps {
  readonly label: string;
  readonly type: "password" | "text";
  readonly autocomplete: "current-password" | "one-time-code";
  readonly action: string;
  readonly typed: string;
  readonly setTyped: (text: string) => void;
  readonly busy: boolean;
  readonly onSend: () => Promise<void>;
  readonly children: ComponentChildren;
}

function Form({ label, type, autocomplete, action, typed, setTyped, busy, onSend, children }: FormProps) {
  const send = (event: Event): void => {
    event.preventDefault();
    void onSend();
  };
  const field = {
    id: "typed",
    autocomplete,
    spellcheck: false,
    required: true,
    value: typed,
    onInput: (event: TargetedInputEvent<HTMLInputElement>): void => setTyped(event.currentTarget.value),
  } as const;
  return (
    <form onSubmit={send}>
      {children}
      <label for="typed">{label}</label>
      {type === "password" ? <input key={label} type="password" {...field} /> : <input key={label} type="text" {...field} />}
      <button type="submit" class="main" disabled={busy}>
        {action}
      </button>
    </form>
  );
}

/** Dark on light in both schemes: many readers take nothing else. */
function QrCode({ text }: { text: string }) {
  const { data, size } = encode(text, { ecc: "M", border: 4 });
  const path = data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return (
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label="The secret as a QR code" shape-rendering="crispEdges">
      <path d={path} />
    </svg>
  );
}
