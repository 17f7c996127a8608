// Runs oidc-provider on loopback: `node provider.mjs` reads {"groups": {account: [names]}} as one line of JSON on stdin, and prints
// its issuer. Any account signs in with any password on the provider's own pages. A further line on stdin replaces the groups, or
// says with {"console": address} where browsers of a web console are sent back to, and is answered with the issuer.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

import Provider from "oidc-provider";

const lines = createInterface({ input: process.stdin });
let groups;
let handle;
let issuer;

lines.on("line", (line) => {
  const said = JSON.parse(line);
  if (said.groups !== undefined) groups = said.groups;
  if (issuer === undefined) start();
  else if (said.console !== undefined) serve([said.console]);
});
lines.on("close", () => process.exit(0));

function start() {
  // The issuer holds the port, which is known only once the server listens.
  const server = createServer((request, response) => handle(request, response));
  server.listen(0, "127.0.0.1", () => {
    issuer = `http://127.0.0.1:${server.address().port}`;
    serve([]);
  });
}

function serve(consoles) {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "tenantry",
        token_endpoint_auth_method: "none",
        application_type: "native",
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
        grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
      },
      {
        client_id: "tenantry-secret",
        client_secret: "a secret of at least thirty-two characters",
        application_type: "native",
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
        grant_types: ["authorization_code"],
      },
      ...consoles.map((address) => ({
        client_id: "tenantry-console",
        token_endpoint_auth_method: "none",
        redirect_uris: [address],
        response_types: ["code"],
        grant_types: ["authorization_code"],
      })),
    ],
    claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    conformIdTokenClaims: false,
    cookies: { keys: ["only for tests"] },
    features: { deviceFlow: { enabled: true } },
    pkce: { required: () => true },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `${id} of the provider`,
        preferred_username: id,
        email: `${id}@example.org`,
        email_verified: true,
        groups: groups[id] ?? [],
      }),
    }),
  });
  handle = provider.callback();
  console.log(JSON.stringify({ issuer }));
}
