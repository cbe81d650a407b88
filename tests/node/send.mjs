// Sends one event and an array of them, and prints the ids: node send.mjs <address> <event key>
import { Inngest } from "inngest";

const [baseUrl, eventKey] = process.argv.slice(2);
const client = new Inngest({ id: "app", baseUrl, eventKey, isDev: false });
const one = await client.send({ name: "app/one", data: { n: 1 }, user: { id: "u1" }, id: "evt-1" });
const many = await client.send([1, 2, 3].map((n) => ({ name: "app/many", data: { n } })));
let refused = "";
try {
  await client.send({ name: "headrace/forbidden", data: {} });
} catch (error) {
  refused = String(error);
}
console.log(JSON.stringify({ one: one.ids, many: many.ids, refused }));
