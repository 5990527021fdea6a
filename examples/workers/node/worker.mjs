// A raincheck worker for Node.js 18 or newer, without dependencies. README.md says how to use it.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const CLAIM_WAIT = 20; // seconds that a claim waits on the server for an attempt
const CALL_TIMEOUT = 30; // seconds that the server may take to respond, in addition to that wait
const [FIRST_DELAY, LONGEST_DELAY] = [0.2, 10]; // seconds between two tries of a call

/** A function throws it to fail its step at once: the attempt is not retried. */
export class FatalError extends Error {
  name = "FatalError";
  retryable = false;
}

/** The server has refused a call; `status` is that of its response. */
export class Refused extends Error {
  constructor(status, text) {
    super(`the server responded with ${status}: ${text}`);
    this.status = status;
  }
}

/**
 * Work until `stop`, an AbortSignal, is aborted and the running attempts have ended. Throws Refused.
 * A function is an object with `name`, `run(attempt, ...args)` and the optional members of the protocol.
 */
export async function work(functions, { server, token, name = hostname(), capacity = 10, stop }) {
  const call = calls(server.replace(/\/+$/, ""), token);
  const table = new Map(functions.map((each) => [each.name, each.run]));
  const body = { name, capacity, functions: functions.map(({ run, ...described }) => described) };
  while (!stop.aborted) {
    try {
      const registered = await call("POST", "/v1/worker", body, { signal: stop });
      await new Registration(call, table, capacity, registered).serve(stop);
    } catch (error) {
      const isStopped = stop.aborted && error.name === "AbortError";
      if (error.status !== 404 && !isStopped) throw error;
    } // 404: the registration has expired, and its attempts run elsewhere. Register again.
  }
}

/** A function that calls the server until it accepts or refuses. It throws Refused, or when `signal` is aborted. */
function calls(server, token) {
  const shared = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  return async (method, path, body, { headers, wait = 0, signal } = {}) => {
    for (let delay = FIRST_DELAY; ; delay = Math.min(2 * delay, LONGEST_DELAY)) {
      signal?.throwIfAborted();
      let pause = delay * (0.5 + Math.random() / 2);
      const limit = new AbortController(); // AbortSignal.any needs Node.js 20
      const abort = () => limit.abort();
      const timer = setTimeout(abort, (wait + CALL_TIMEOUT) * 1000);
      signal?.addEventListener("abort", abort);
      try {
        const request = { method, headers: { ...shared, ...headers }, body: body && JSON.stringify(body) };
        const response = await fetch(server + path, { ...request, signal: limit.signal });
        const text = await response.text();
        if (response.ok) return text ? JSON.parse(text) : null;
        if (response.status < 500 && response.status !== 429) throw new Refused(response.status, text);
        pause = Math.max(pause, Number(response.headers.get("Retry-After")) || 0);
      } catch (error) {
        if (error instanceof Refused || signal?.aborted) throw error;
      } finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
      }
      await sleep(pause * 1000, null, { signal });
    }
  };
}

/** One registration on the server, and the attempts that it holds. */
class Registration {
  #held = new Map(); // attempts by id, until the server has their results
  #finished = []; // entries of the next finish
  #sent = Promise.resolve(); // the last finish
  #paused = false; // whether the server asks for no claims

  constructor(call, table, capacity, { id, token, heartbeat, limits }) {
    const headers = { "Worker-Token": token };
    this.call = (name, body, options) => call("POST", `/v1/worker/${id}/${name}`, body, { headers, ...options });
    this.leave = () => call("DELETE", `/v1/worker/${id}`, undefined, { headers });
    Object.assign(this, { table, capacity, heartbeat: heartbeat * 1000, most: limits.attempts });
  }

  /** Work until `stop` is aborted and all attempts have ended. Throws Refused: with 404, it has expired. */
  async serve(stop) {
    const [claims, beats] = [new AbortController(), new AbortController()];
    const stopClaims = () => claims.abort();
    this.stop = stop;
    stop.addEventListener("abort", stopClaims);
    if (stop.aborted) stopClaims();
    const failed = new Promise((_, reject) => (this.fail = reject));
    const worked = this.#claim(claims.signal).then(() => Promise.all(this.#ends()));
    this.#extend(beats.signal).catch(this.fail);
    try {
      await Promise.race([worked, failed]);
      await this.leave();
    } finally {
      stop.removeEventListener("abort", stopClaims);
      claims.abort();
      beats.abort();
      this.#drop([...this.#held.keys()]);
    }
  }

  #ends() {
    return [...this.#held.values()].map((attempt) => attempt.ended);
  }

  /** Stop attempts whose results are not wanted. */
  #drop(ids) {
    for (const id of ids) {
      const attempt = this.#held.get(id);
      this.#held.delete(id);
      attempt?.stop("lost");
    }
  }

  async #claim(signal) {
    while (!signal.aborted) {
      const limit = Math.min(this.capacity - this.#held.size, this.most);
      try {
        if (limit === 0) await Promise.race(this.#ends());
        else if (this.#paused) await sleep(this.heartbeat, null, { signal });
        else {
          const options = { wait: CLAIM_WAIT, signal };
          const claimed = await this.call("claim", { limit, wait: CLAIM_WAIT }, options);
          for (const each of claimed.attempts) this.#begin(new Attempt(each));
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }
  }

  #begin(attempt) {
    this.#held.set(attempt.id, attempt);
    const running = attempt.run(this.table.get(attempt.function)).then((entry) => this.#finish(attempt, entry));
    attempt.ended = running.catch(this.fail).finally(() => this.#held.delete(attempt.id));
  }

  /** Send the result of an attempt, together with all that finish while the last finish is on its way. */
  async #finish(attempt, entry) {
    if (attempt.hasReport) await this.#beat([attempt]);
    if (!this.#held.has(attempt.id)) return; // lost
    this.#finished.push(entry);
    if (this.#finished.length === 1) this.#sent = this.#sent.then(() => this.#send(this.#finished.splice(0)));
    await this.#sent;
  }

  async #send(attempts) {
    try {
      const { attempts: outcomes } = await this.call("finish", { attempts });
      const refused = outcomes.filter((each) => each.outcome === "refused");
      if (refused.length) await this.#send(refused.map(({ id, problem }) => refusal(id, problem.detail)));
    } catch (error) {
      if (error.status !== 413) throw error; // more than the server takes at once
      if (attempts.length === 1) await this.#send([refusal(attempts[0].id, error.message)]);
      else for (const each of attempts) await this.#send([each]);
    }
  }

  async #extend(signal) {
    while (!signal.aborted) {
      await sleep(this.heartbeat, null, { signal }).catch(() => {});
      if (!signal.aborted && (this.#held.size || this.#paused)) await this.#beat([...this.#held.values()]);
    }
  }

  /** Extend the leases of attempts, send their reports, and do what the server asks for. */
  async #beat(attempts) {
    const body = { attempts: attempts.map((attempt) => attempt.takeReport()), running: this.#held.size };
    const reply = await this.call("extend", { ...body, state: this.stop.aborted ? "stopping" : "active" });
    this.#paused = !reply.claim;
    for (const { id, reason } of reply.stop) {
      if (reason === "lost") this.#drop([id]);
      else this.#held.get(id)?.stop(reason);
    }
  }
}

/** What a function gets: the members of the claimed attempt, and a `signal` that is aborted when it must stop. */
class Attempt {
  #stop = new AbortController();
  #report = {};
  #changes = {};

  constructor(claimed) {
    Object.assign(this, claimed);
    this.signal = this.#stop.signal;
  }

  /** Change the data of the job. The change is stored together with the result. */
  set(key, value) {
    this.data[key] = this.#changes[key] = value;
  }

  progress(done, total, message) {
    this.#report.progress = { done, total, message };
  }

  log(message, level = "info") {
    (this.#report.log ??= []).push({ level, message });
  }

  stop(reason) {
    this.#stop.abort(new Error(reason));
  }

  get hasReport() {
    return Object.keys(this.#report).length > 0;
  }

  /** What was reported since the last call, as an entry of an extend. */
  takeReport() {
    const report = this.#report;
    this.#report = {};
    return { id: this.id, ...report };
  }

  /** Run the function; returns an entry of a finish. A function that ignores its signal is left behind. */
  async run(run) {
    const timer = this.timeout && setTimeout(() => this.stop("timeout"), this.timeout * 1000);
    const stopped = new Promise((_, reject) => this.signal.addEventListener("abort", reject));
    try {
      const result = await Promise.race([stopped, (async () => run(this, ...this.args))()]);
      return { id: this.id, result: result ?? null, data: this.#changes };
    } catch (error) {
      return this.signal.aborted ? { id: this.id, stopped: true } : { id: this.id, error: describe(error) };
    } finally {
      clearTimeout(timer);
    }
  }
}

/** An entry of a finish, for a result that the server has refused. */
function refusal(id, message) {
  return { id, error: { type: "Refused", message, retryable: false } };
}

function describe(thrown) {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { name, message, stack, retryable = true, retryAfter } = error;
  return { type: name, types: [name, "Error"], message, traceback: stack, retryable, retry_after: retryAfter };
}
