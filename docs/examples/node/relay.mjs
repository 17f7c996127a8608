// One TCP connection through a tunnel: between a socket of this machine and a stream of `TunnelRelayService.Dial`.
import { failureOf } from "./failures.mjs";

const WINDOW = 1 << 20;
const LARGEST = 256 << 10;

/**
 * Copies between `socket` (made with `allowHalfOpen`) and `target`, until both sides have said all. Resolves then; rejects with a
 * Failure when the connection did not come about or broke off, and resets the socket.
 *
 * Each side sends only what the other has allowed: the window that `begin` and `joined` name, and then what each `credit` adds. A
 * credit is given when the socket has taken the data, so that nothing is heaped up here for a slow reader.
 */
export function relay(client, { tunnelId, key }, target, socket) {
  const stream = client.dial();
  let [allowed, joined, ours, theirs] = [0, false, false, false];

  function send() {
    while (allowed > 0 && socket.readableLength > 0) {
      const data = socket.read(Math.min(allowed, socket.readableLength, LARGEST));
      allowed -= data.length;
      stream.write({ data }); // what gRPC has not sent yet is never more than the window
    }
    if (socket.readableLength === 0) socket.read(0); // asks for more, or notices the end
  }

  return new Promise((resolve, reject) => {
    const fail = (error) => {
      socket.resetAndDestroy();
      reject(error);
    };
    const finishWhenBothAreDone = () => ours && theirs && stream.end();

    stream.on("data", (frame) => {
      switch (frame.message) {
        case "joined":
          [joined, allowed] = [true, frame.joined.window];
          send();
          break;
        case "data":
          socket.write(frame.data, (error) => {
            if (!error && !theirs) stream.write({ credit: { bytes: frame.data.length } });
          });
          break;
        case "credit":
          allowed += frame.credit.bytes;
          send();
          break;
        case "fin":
          theirs = true;
          socket.end();
          finishWhenBothAreDone();
          break;
        default:
          stream.cancel();
          fail(new Error(`reset: ${frame.reset?.detail || frame.reset?.end}`));
      }
    });
    stream.on("error", (error) => fail(failureOf(error)));
    stream.on("end", () => (ours && theirs ? resolve() : fail(new Error("the Master ended the connection"))));

    socket.on("readable", () => joined && send());
    socket.on("end", () => {
      ours = true;
      stream.write({ fin: {} });
      finishWhenBothAreDone();
    });
    socket.on("error", () => {
      stream.write({ reset: { end: "TUNNEL_END_RESET" } });
      stream.end();
      reject(new Error("the connection here was reset"));
    });

    stream.write({ begin: { tunnelId, key, target, window: WINDOW } });
  });
}
