// BullMQ: a Queue, a Worker (100 jobs at once: one by default), and QueueEvents for results.
// node peer.js worker | one N | together N | bulk N | chains N | latencies N   prints seconds as JSON

import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";

const NAME = "bench";
const { hostname: host, port } = new URL(process.env.BENCH_URL);
const options = { connection: { host, port: Number(port), maxRetriesPerRequest: null } };
const [what, count] = [process.argv[2], Number(process.argv[3])];
const now = () => performance.now() / 1000;

async function timed(work) {
  const startedAt = now();
  await work();
  return now() - startedAt;
}

const each = async (queue, jobs) => {
  for (let i = 0; i < jobs; i++) await queue.add("nothing", {});
};

const ways = {
  one: (queue, jobs) => timed(() => each(queue, jobs)),
  together: (queue, jobs) =>
    timed(() => Promise.all(Array.from({ length: 50 }, () => each(queue, jobs / 50)))),
  bulk: (queue, jobs) =>
    timed(async () => {
      for (let i = 0; i < jobs; i += 1000)
        await queue.addBulk(Array.from({ length: Math.min(1000, jobs - i) }, () => ({ name: "nothing", data: {} })));
    }),
  async chains(queue, chains) {
    const step = (...children) => ({ name: "nothing", queueName: NAME, data: {}, children });
    const flows = new FlowProducer(options);
    for (let i = 0; i < chains; i += 100)
      await flows.addBulk(Array.from({ length: Math.min(100, chains - i) }, () => step(step(step()))));
    await flows.close();
    return 0;
  },
  async latencies(queue, calls) {
    const events = new QueueEvents(NAME, options);
    await events.waitUntilReady();
    const took = [];
    for (let i = 0; i < calls; i++) {
      await new Promise((done) => setTimeout(done, 1));
      took.push(await timed(async () => (await queue.add("nothing", {})).waitUntilFinished(events)));
    }
    await events.close();
    return took;
  },
};

if (what === "worker") {
  const worker = new Worker(NAME, async () => 0, { ...options, concurrency: 100 });
  process.on("SIGTERM", async () => {
    await worker.close();
    process.exit(0);
  });
} else {
  const queue = new Queue(NAME, options);
  await queue.waitUntilReady();
  console.log(JSON.stringify(await ways[what](queue, count)));
  await queue.close();
}
