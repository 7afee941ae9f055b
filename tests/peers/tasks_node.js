// Checks of the Node client. Prints a JSON object: what was checked, and an error or null.

"use strict";

const assert = require("node:assert");
const grpc = require("@grpc/grpc-js");
const { CloudTasksClient } = require("@google-cloud/tasks");

const [host, port] = process.env.CLOUD_TASKS_EMULATOR_HOST.split(":");
const client = new CloudTasksClient({
  servicePath: host, port: Number(port), sslCreds: grpc.credentials.createInsecure(), projectId: "node",
});
const parent = client.locationPath("node", `l${process.pid}`);
const fallback = new CloudTasksClient({
  servicePath: host, port: Number(port), fallback: true, protocol: "http", projectId: "node",
  authClient: { getRequestHeaders: async () => ({}), getUniverseDomain: async () => "googleapis.com", fetch: (url, options) => fetch(url, options), request: async () => ({}) },
});

const work = { appEngineHttpRequest: { httpMethod: "POST", relativeUri: "/node", body: Buffer.from("grün").toString("base64") } };
const inAnHour = () => ({ seconds: Math.floor(Date.now() / 1000) + 3600 });

const queue = async (name) => (await client.createQueue({ parent, queue: { name: `${parent}/queues/${name}` } }))[0].name;

const refusedWith = async (code, call) => {
  await assert.rejects(call, (error) => error.code === code);
};

const checks = {
  "creates a queue": async () => {
    const name = await queue("create");
    const [found] = await client.getQueue({ name });
    assert.strictEqual(found.state, "RUNNING");
    assert.strictEqual(found.retryConfig.maxAttempts, 100);
  },
  "lists queues": async () => {
    const name = await queue("listed");
    const [found] = await client.listQueues({ parent });
    assert.ok(found.some((each) => each.name === name));
  },
  "lists queues one after the other": async () => {
    const name = await queue("iterated");
    const found = [];
    for await (const each of client.listQueuesAsync({ parent, pageSize: 1 })) found.push(each.name);
    assert.ok(found.includes(name));
  },
  "changes a queue": async () => {
    const name = await queue("change");
    await client.updateQueue({ queue: { name, rateLimits: { maxConcurrentDispatches: 3 } }, updateMask: { paths: ["rate_limits.max_concurrent_dispatches"] } });
    assert.strictEqual((await client.getQueue({ name }))[0].rateLimits.maxConcurrentDispatches, 3);
  },
  "pauses and resumes a queue": async () => {
    const name = await queue("pause");
    assert.strictEqual((await client.pauseQueue({ name }))[0].state, "PAUSED");
    assert.strictEqual((await client.resumeQueue({ name }))[0].state, "RUNNING");
  },
  "creates and lists tasks": async () => {
    const name = await queue("tasks");
    await client.pauseQueue({ name });
    const [task] = await client.createTask({ parent: name, task: { name: `${name}/tasks/t`, ...work } });
    const [tasks] = await client.listTasks({ parent: name, responseView: "FULL" });
    assert.deepStrictEqual(tasks.map((each) => each.name), [task.name]);
    assert.strictEqual(Buffer.from(tasks[0].appEngineHttpRequest.body).toString(), "grün");
  },
  "schedules a task": async () => {
    const name = await queue("schedule");
    const scheduleTime = inAnHour();
    const [task] = await client.createTask({ parent: name, task: { scheduleTime, ...work } });
    assert.strictEqual(Number(task.scheduleTime.seconds), scheduleTime.seconds);
  },
  "purges a queue": async () => {
    const name = await queue("purge");
    await client.createTask({ parent: name, task: { scheduleTime: inAnHour(), ...work } });
    await client.purgeQueue({ name });
    assert.deepStrictEqual((await client.listTasks({ parent: name }))[0], []);
  },
  "deletes a task": async () => {
    const name = await queue("delete");
    const [task] = await client.createTask({ parent: name, task: { scheduleTime: inAnHour(), ...work } });
    await client.deleteTask({ name: task.name });
    await refusedWith(5, client.getTask({ name: task.name }));
  },
  "runs a task": async () => {
    const name = await queue("run");
    await client.pauseQueue({ name });
    const [task] = await client.createTask({ parent: name, task: work });
    const [run] = await client.runTask({ name: task.name });
    assert.strictEqual(run.dispatchCount, 1);
  },
  "refuses a task that is there": async () => {
    const name = await queue("twice");
    await client.pauseQueue({ name });
    const request = { parent: name, task: { name: `${name}/tasks/t`, ...work } };
    await client.createTask(request);
    await refusedWith(6, client.createTask(request));
  },
  "does not find a queue that is not there": async () => {
    await refusedWith(5, client.getQueue({ name: `${parent}/queues/nosuch` }));
  },
  "deletes a queue": async () => {
    const name = await queue("gone");
    await client.deleteQueue({ name });
    await refusedWith(5, client.getQueue({ name }));
  },
  "works over REST": async () => {
    const name = await queue("rest");
    const [task] = await fallback.createTask({ parent: name, task: { scheduleTime: inAnHour(), ...work } });
    assert.ok(task.name.startsWith(`${name}/tasks/`));
    assert.strictEqual((await fallback.pauseQueue({ name }))[0].state, "PAUSED");
    assert.strictEqual((await fallback.listTasks({ parent: name }))[0].length, 1);
  },
};

const withLimit = (promise) => Promise.race([
  promise,
  new Promise((_, reject) => setTimeout(() => reject(new Error("no answer within 20 seconds")), 20000)),
]);

(async () => {
  const outcome = {};
  for (const [what, check] of Object.entries(checks)) {
    try {
      await withLimit(check());
      outcome[what] = null;
    } catch (error) {
      outcome[what] = `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 200);
    }
  }
  console.log(JSON.stringify(outcome));
  process.exit(0);
})();
