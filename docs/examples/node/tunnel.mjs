// Forwards a port of this machine to a target at a Tenant, until Ctrl-C or until the tunnel is over.
//
//   node tunnel.mjs GUID LOCAL_PORT HOST PORT [--reason TEXT]
//
// Local port 0 is any that is free. Prints one JSON object a line: `listening` once, then `connected` and `ended` for each connection.
// Which Master is meant, and who is signed in, the environment says (master.mjs).
import net from "node:net";
import { parseArgs } from "node:util";
import { Failure, failureOf, main } from "./failures.mjs";
import { findMaster } from "./master.mjs";
import { relay } from "./relay.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { reason: { type: "string", default: "" } } });
const say = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }));

/**
 * Opens the tunnel. It lives as long as this call: `ended` settles when it is over. Resolves when connections may be opened, which
 * may take as long as people at the Tenant need to say yes.
 */
function open(client, request) {
  const held = client.openTunnel(request);
  const opened = new Promise((resolve, reject) => {
    held.on("data", ({ tunnel, key, port, serverName }) => {
      if (tunnel.state === "TUNNEL_STATE_WAITING_FOR_CONSENT") process.stderr.write("waits for consent at the Tenant\n");
      if (key) resolve({ tunnelId: tunnel.id, key, port, serverName });
    });
    held.on("error", (error) => reject(failureOf(error)));
  });
  const ended = new Promise((resolve, reject) => {
    held.on("error", (error) => reject(failureOf(error)));
    held.on("end", resolve);
  });
  ended.catch(() => {}); // `opened` says it first, where the tunnel does not come about
  return { held, opened, ended };
}

await main(async () => {
  const [tenant, local, host, port] = positionals;
  if (!port) throw new Failure("USAGE", "node tunnel.mjs GUID LOCAL_PORT HOST PORT [--reason TEXT]");
  const target = { host, port: Number(port) };
  const master = await findMaster();
  const tunnels = master.connect("TunnelService");
  const { held, opened, ended } = open(tunnels, { tenant, targets: [target], reason: values.reason });
  const stop = () => held.cancel();
  process.once("SIGINT", stop).once("SIGTERM", stop);
  const server = net.createServer({ allowHalfOpen: true });
  let relays;
  try {
    const leave = await opened;
    relays = master.connectWithout("TunnelRelayService", leave.port, leave.serverName);
    server.on("connection", async (socket) => {
      say("connected");
      await relay(relays, leave, target, socket).then(
        () => say("ended"),
        (error) => say("ended", { reason: error.reason, message: error.message }),
      );
    });
    server.listen(Number(local), "127.0.0.1", () => say("listening", { port: server.address().port, tunnel: leave.tunnelId }));
    await ended;
  } catch (failure) {
    if (failure.reason !== "CANCELLED") throw failure; // that was Ctrl-C
  } finally {
    server.close();
    relays?.close();
    tunnels.close();
  }
});
