// Uses openapi-fetch with the types that openapi-typescript generated: node client.js URL.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Job = components["schemas"]["Job"];

function expect(actual: unknown, expected: unknown) {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
  }
}

const url = process.argv[2];
const client = createClient<paths>({ baseUrl: url });
const prefer = { header: { Prefer: "wait=10" } };

const created = await client.POST("/v1/job", {
  body: { name: "sum", functions: [{ name: "add", args: [1, 2] }, [{ name: "add" }, { name: "add", args: [4] }]] },
});
let job: Job = created.data!;
while (job.state !== "done" && job.state !== "failed") {
  const { data } = await client.GET("/v1/job/{id}", { params: { path: { id: job.id }, ...prefer } });
  job = data!;
}
expect([job.state, job.result], ["done", [0, 4]]);

const sum = await client.POST("/v1/function/add", { body: [1, 2], params: prefer });
const data = sum.data!;
if (!("result" in data) || data.state !== "done") throw new Error("the call has not ended");
expect(data.result, 3);

// @ts-expect-error: the argument is a number
await client.POST("/v1/function/add", { body: ["one"] });

const words = await client.POST("/v1/function/trees/words", {
  body: { tree: { word: "a", below: [{ word: "b" }] } },
  params: prefer,
});
const list: string[] = (words.data as { result: string[] }).result;
expect(list, ["a", "b"]);

const failed = await client.POST("/v1/function/refuse", { body: { reason: "no luck" }, params: prefer });
const problem: components["schemas"]["Problem"] = failed.error!;
expect([problem.type, problem.detail], ["urn:raincheck:problem:function-failed", "no luck"]);

const run = await client.POST("/v1/group/{name}", { params: { path: { name: "sums" }, ...prefer } });
expect([run.data!.state, run.data!.result], ["done", 3]);
console.log("ok");
