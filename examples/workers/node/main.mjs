// Starts a worker: node main.mjs FUNCTIONS.mjs..., with RAINCHECK_SERVER and RAINCHECK_TOKEN in the environment.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { work } from "./worker.mjs";

const { RAINCHECK_SERVER: server = "http://127.0.0.1:8000", RAINCHECK_TOKEN: token } = process.env;
const modules = await Promise.all(process.argv.slice(2).map((file) => import(pathToFileURL(resolve(file)))));
const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop.abort());
console.log(`Worker for ${server}. Stop it with Ctrl-C or SIGTERM.`);
await work(modules.flatMap((each) => each.default), { server, token, stop: stop.signal });
process.exit(); // a function that was left behind may still wait
