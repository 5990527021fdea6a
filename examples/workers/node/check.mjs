// The functions that raincheck worker-check calls.
import { setTimeout as sleep } from "node:timers/promises";
import { FatalError } from "./worker.mjs";

export default [
  { name: "check/echo", run: (attempt, value) => value },
  {
    name: "check/sleep",
    async run({ signal }, seconds) {
      if (typeof seconds !== "number") throw new TypeError("seconds must be a number");
      await sleep(seconds * 1000, null, { signal });
      return "slept";
    },
  },
  {
    name: "check/fail",
    run(attempt, message) {
      throw new Error(message);
    },
  },
  {
    name: "check/fatal",
    run(attempt, message) {
      throw new FatalError(message);
    },
  },
  {
    name: "check/flaky",
    run({ attempt }) {
      if (attempt === 1) throw new Error("the first attempt fails");
      return attempt;
    },
  },
  {
    name: "check/data",
    run(attempt, key, value) {
      const before = { previous: attempt.previous, data: { ...attempt.data } };
      attempt.set(key, value);
      return before;
    },
  },
  {
    name: "check/progress",
    run(attempt) {
      attempt.progress(1, 2, "half");
      attempt.log("half of it is done");
      return "done";
    },
  },
];
