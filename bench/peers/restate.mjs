// Restate: a handler whose steps are `ctx.run`, served by a process of its own, beside one restate-server.
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as restate from "@restatedev/restate-sdk";
import * as clients from "@restatedev/restate-sdk-clients";
import { collector, completed, counted, effects, now, quiet, serve, together, worker } from "./wire.mjs";

// The SDK wants Node 22; this is all that it misses in Node 20.
Promise.withResolvers ??= function () {
  const found = {};
  found.promise = new Promise((resolve, reject) => Object.assign(found, { resolve, reject }));
  return found;
};

const free = () => new Promise((resolve) => {
  const probe = net.createServer().listen(0, "127.0.0.1", () => { const { port } = probe.address(); probe.close(() => resolve(port)); });
});

async function perform() {
  const effect = effects();
  const count = counted();
  const step = (ctx, name) => ctx.run(name, async () => { effect(name); return { ok: true }; });
  const bench = restate.service({
    name: "bench",
    handlers: {
      one: async (ctx) => { await step(ctx, "a"); count(); return 1; },
      five: async (ctx) => { for (let number = 0; number < 5; number += 1) await step(ctx, `s${number}`); count(); return 5; },
      wide: async (ctx, width) => {
        await restate.RestatePromise.all(Array.from({ length: width }, (_, number) => step(ctx, `p${number}`)));
        await step(ctx, "join");
        count();
        return width;
      },
    },
  });
  await restate.serve({ services: [bench], port: Number(process.env.BENCH_PORT), logger: (meta, ...what) => { if (meta.level === "error") process.stderr.write(`${what.join(" ")}\n`); } });
}

async function server(directory) {
  const [ingress, admin, node] = [await free(), await free(), await free()];
  const binary = path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules", ".bin", "restate-server");
  const log = fs.openSync(path.join(directory, "restate.log"), "a");
  const child = spawn(binary, ["--base-dir", path.join(directory, "restate"), "--no-logo", "--listen-mode", "tcp", "--node-name", "bench"], {
    stdio: ["ignore", log, log],
    env: {
      ...process.env,
      RESTATE_BIND_IP: "127.0.0.1", RESTATE_BIND_PORT: String(node),
      RESTATE_INGRESS__BIND_PORT: String(ingress), RESTATE_ADMIN__BIND_PORT: String(admin),
      RESTATE_DISABLE_TELEMETRY: "true",
    },
  });
  for (let tries = 0; tries < 300; tries += 1) {
    try {
      if ((await fetch(`http://127.0.0.1:${admin}/health`)).ok) break;
    } catch { /* not yet */ }
    await quiet(100);
  }
  return { child, admin: `http://127.0.0.1:${admin}`, ingress: `http://127.0.0.1:${ingress}` };
}

async function drive() {
  const seen = await collector();
  const port = await free();
  const performer = worker(fileURLToPath(import.meta.url), seen.port, { BENCH_PORT: String(port) });
  const { child, admin, ingress } = await server(process.env.BENCH_DIRECTORY);
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(`${admin}/deployments`, {
      method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ uri: `http://127.0.0.1:${port}`, force: true }),
    }).catch((error) => ({ ok: false, text: async () => String(error) }));
    if (answer.ok) break;
    if (tries > 100) throw new Error(await answer.text());
    await quiet(100);
  }
  const client = clients.connect({ url: ingress });
  const [calls, sends] = [client.serviceClient({ name: "bench" }), client.serviceSendClient({ name: "bench" })];

  async function several(call, count, pauseMs) {
    const found = [];
    for (let number = 0; number < count; number += 1) {
      await quiet(pauseMs);
      seen.clear();
      const called = now();
      await call();
      const spent = now() - called;
      await quiet(5);
      found.push({ own_ms: spent, call_ms: spent, client_ms: spent, first_step_ms: seen.first - called });
    }
    return found;
  }
  async function timed(runs, steps, store) {
    const before = (await performer.ask("count")).count;
    const called = now();
    await store();
    const stored = now() - called;
    const ended = (await completed(performer.ask, before, runs)) - called;
    return { stored_per_s: (runs / stored) * 1e3, executed_per_s: (runs / ended) * 1e3, steps_per_s: ((runs * steps) / ended) * 1e3 };
  }
  const IN_FLIGHT = 50; // it takes no batches
  await serve({
    warm: async () => { await together(50, IN_FLIGHT, () => calls.five()); return true; },
    lone: ({ count, pause_ms: pauseMs }) => several(() => calls.five(), count, pauseMs),
    fan_out: ({ count, width, pause_ms: pauseMs }) => several(() => calls.wide(width), count, pauseMs),
    many: ({ runs }) => timed(runs, 1, () => together(runs, IN_FLIGHT, () => sends.one())),
    single: ({ runs, in_flight: inFlight }) => timed(runs, 1, () => together(runs, inFlight, () => sends.one())),
    chain: ({ runs }) => timed(runs, 5, () => together(runs, IN_FLIGHT, () => sends.five())),
    end: async () => { await performer.end(); child.kill("SIGTERM"); await new Promise((done) => child.once("exit", done)); return true; },
  });
}

await (process.argv[2] === "worker" ? perform() : drive());
