// The functions of examples/chain, in JavaScript.
export default [
  {
    name: "/v1/say-hello-world",
    doc: "Say hello.",
    parameters: { type: "object", properties: { name: { type: "string" } }, additionalProperties: false },
    positional: { type: "array", prefixItems: [{ type: "string" }], items: false },
    run: ({ kwargs }, name = kwargs.name ?? "world") => `Hello, ${name}!`,
  },
  {
    name: "/v1/test-1",
    doc: "Write to the job's data, which later functions can read.",
    run(attempt) {
      attempt.set("left by", attempt.function);
      return "test-1 was here";
    },
  },
  {
    name: "/v1/test-2",
    doc: "Return the result of the previous function and the job's data.",
    run: ({ previous, data }) => ({ previous, data }),
  },
  {
    name: "/v1/test-fail",
    doc: "Fail with any arguments.",
    run({ attempt }, ...args) {
      throw new Error(`attempt ${attempt} with ${JSON.stringify(args)} failed, as always`);
    },
  },
];
