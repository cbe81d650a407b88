// What the drivers of the peers share: commands as lines of JSON, effects as datagrams, and a worker process.
import dgram from "node:dgram";
import readline from "node:readline";
import { fork } from "node:child_process";

export const now = () => performance.timeOrigin + performance.now();

export const quiet = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The side effect of a step: one datagram with its name and time. It costs the same few µs in every system.
export function effects() {
  const socket = dgram.createSocket("udp4");
  socket.unref();
  const port = Number(process.env.BENCH_EFFECTS);
  return (name) => socket.send(`${name} ${now()}`, port, "127.0.0.1");
}

// Collects effects in the driver. `first` is the time of the first since `clear`.
export async function collector() {
  const socket = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const state = { port: socket.address().port, first: 0, clear: () => { state.first = 0; } };
  socket.on("message", (data) => {
    const at = Number(data.toString().split(" ")[1]);
    if (!state.first || at < state.first) state.first = at;
  });
  return state;
}

// The process that performs steps: the same file, with the role "worker".
export function worker(file, port, more = {}) {
  const child = fork(file, ["worker"], { env: { ...process.env, BENCH_EFFECTS: String(port), ...more }, stdio: ["ignore", "ignore", "inherit", "ipc"] });
  let resolve = null;
  child.on("message", (message) => { if (resolve) { const found = resolve; resolve = null; found(message); } });
  const ask = (message) => new Promise((done) => { resolve = done; child.send(message); });
  const end = async () => {
    const over = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    await over;
  };
  return { ask, end, pid: child.pid };
}

// Counts what the worker has completed, and when it last did; answers the driver.
export function counted() {
  const state = { count: 0, at: 0 };
  process.on("message", () => process.send(state));
  return () => { state.count += 1; state.at = now(); };
}

// The time at which `runs` more than `before` had been completed, by the worker's own note.
export async function completed(ask, before, runs) {
  for (;;) {
    const { count, at } = await ask("count");
    if (count - before >= runs) return at;
    await quiet(20);
  }
}

// `total` calls of `send`, at most `inFlight` at once.
export async function together(total, inFlight, send) {
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(inFlight, total) }, async () => {
    while (next < total) await send(next++);
  }));
}

// Commands from stdin, one at a time; answers to stdout.
export async function serve(verbs) {
  process.stdout.write(JSON.stringify({ ready: true }) + "\n");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { verb, ...given } = JSON.parse(line);
    let answer;
    try {
      answer = { value: await verbs[verb](given) };
    } catch (error) {
      answer = { error: String(error?.stack ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
    if (verb === "end") process.exit(0);
  }
  await verbs.end(); // the bench is gone
  process.exit(0);
}
