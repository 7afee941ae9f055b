// Checks of the Node client. Prints a JSON object: what was checked, and an error or null.

"use strict";

const assert = require("node:assert");
const { Datastore, PropertyFilter, AggregateQuery, and, or } = require("@google-cloud/datastore");

const client = new Datastore({ projectId: "node" });
const second = new Datastore({ projectId: "node", databaseId: "second" });

const bills = async (kind) => {
  const entities = [1, 2, 3, 4, 5].map((number) => ({
    key: client.key([kind, number]),
    data: { number, half: number % 2, address: { city: number === 3 ? "Bonn" : "Ulm" } },
  }));
  await client.save(entities);
};

// A found entity also has its key, under a symbol.
const data = (found) => Object.fromEntries(Object.entries(found));

const numbers = (found) => found[0].map((bill) => bill.number);

const checks = {
  "saves, gets and deletes": async () => {
    const key = client.key(["Simple", "a"]);
    await client.save({ key, data: { text: "grün", inner: { list: [1, 2.5, null] } } });
    const [found] = await client.get(key);
    assert.deepStrictEqual(data(found), { text: "grün", inner: { list: [1, 2.5, null] } });
    await client.delete(key);
    assert.strictEqual((await client.get(key))[0], undefined);
  },
  "completes keys": async () => {
    const entity = { key: client.key("Incomplete"), data: { a: 1 } };
    await client.save(entity);
    assert.ok(entity.key.id);
    const [keys] = await client.allocateIds(client.key("Incomplete"), 3);
    assert.strictEqual(new Set(keys.map((key) => key.id)).size, 3);
  },
  "queries with filters and orders": async () => {
    await bills("Filters");
    const query = client.createQuery("Filters").filter(new PropertyFilter("half", "=", 1)).order("number", { descending: true });
    assert.deepStrictEqual(numbers(await client.runQuery(query)), [5, 3, 1]);
  },
  "queries properties of embedded entities": async () => {
    await bills("Embedded");
    const query = client.createQuery("Embedded").filter(new PropertyFilter("address.city", "=", "Bonn"));
    assert.deepStrictEqual(numbers(await client.runQuery(query)), [3]);
  },
  "queries with or, in and !=": async () => {
    await bills("Or");
    const either = or([new PropertyFilter("number", "=", 2), new PropertyFilter("number", "IN", [4, 5])]);
    assert.deepStrictEqual(numbers(await client.runQuery(client.createQuery("Or").filter(either))), [2, 4, 5]);
    const unequal = and([new PropertyFilter("number", "!=", 3), new PropertyFilter("half", "=", 1)]);
    assert.deepStrictEqual(numbers(await client.runQuery(client.createQuery("Or").filter(unequal))), [1, 5]);
  },
  "pages by cursor": async () => {
    await bills("Pages");
    const query = () => client.createQuery("Pages").order("number").limit(2);
    const [first, info] = await client.runQuery(query());
    assert.strictEqual(info.moreResults, "MORE_RESULTS_AFTER_LIMIT");
    const next = await client.runQuery(query().start(info.endCursor));
    assert.deepStrictEqual([...numbers([first]), ...numbers(next)], [1, 2, 3, 4]);
  },
  "streams more results than a batch has": async () => {
    const entities = Array.from({ length: 450 }, (_, index) => ({ key: client.key(["Stream", index + 1]), data: { index } }));
    await client.save(entities);
    const [found] = await client.runQuery(client.createQuery("Stream"));
    assert.strictEqual(found.length, 450);
  },
  "projections": async () => {
    await bills("Projection");
    const query = client.createQuery("Projection").select(["number"]).filter(new PropertyFilter("number", ">", 3));
    assert.deepStrictEqual(numbers(await client.runQuery(query)), [4, 5]);
  },
  "keys only": async () => {
    await bills("Keys");
    const [found] = await client.runQuery(client.createQuery("Keys").select("__key__"));
    assert.deepStrictEqual(found.map((each) => each[client.KEY].id), ["1", "2", "3", "4", "5"]);
  },
  "ancestors": async () => {
    await client.save({ key: client.key(["Parent", 1, "Child", 2]), data: { number: 7 } });
    const query = client.createQuery("Child").hasAncestor(client.key(["Parent", 1]));
    assert.deepStrictEqual(numbers(await client.runQuery(query)), [7]);
  },
  "counts, sums and averages": async () => {
    await bills("Aggregates");
    const query = client.createAggregationQuery(client.createQuery("Aggregates"))
      .count("all").sum("number", "sum").average("number", "average");
    const [[found]] = await client.runAggregationQuery(query);
    assert.deepStrictEqual(data(found), { all: 5, sum: 15, average: 3 });
  },
  "commits transactions": async () => {
    const key = client.key(["Account", 1]);
    await client.save({ key, data: { amount: 1 } });
    const transaction = client.transaction();
    await transaction.run();
    const [account] = await transaction.get(key);
    transaction.save({ key, data: { amount: account.amount + 1 } });
    await transaction.commit();
    assert.strictEqual((await client.get(key))[0].amount, 2);
  },
  "rolls transactions back": async () => {
    const key = client.key(["Account", 2]);
    const transaction = client.transaction();
    await transaction.run();
    transaction.save({ key, data: { amount: 1 } });
    await transaction.rollback();
    assert.strictEqual((await client.get(key))[0], undefined);
  },
  "begins a transaction with its first read": async () => {
    const key = client.key(["Account", 3]);
    await client.save({ key, data: { amount: 1 } });
    const transaction = client.transaction();
    const [account] = await transaction.get(key);
    transaction.save({ key, data: { amount: account.amount + 1 } });
    await transaction.commit();
    assert.strictEqual((await client.get(key))[0].amount, 2);
  },
  "queries in a transaction": async () => {
    await bills("Inside");
    const transaction = client.transaction({ readOnly: true });
    await transaction.run();
    const found = await transaction.runQuery(transaction.createQuery("Inside").order("number"));
    await transaction.commit();
    assert.deepStrictEqual(numbers(found), [1, 2, 3, 4, 5]);
  },
  "insert and update are refused as in production": async () => {
    const key = client.key(["Once", 1]);
    await assert.rejects(client.update({ key, data: {} }), { code: 5 });
    await client.insert({ key, data: {} });
    await assert.rejects(client.insert({ key, data: {} }), { code: 6 });
  },
  "merges": async () => {
    const key = client.key(["Merge", 1]);
    await client.save({ key, data: { a: 1, b: 2 } });
    await client.merge({ key, data: { b: 3 } });
    assert.deepStrictEqual(data((await client.get(key))[0]), { a: 1, b: 3 });
  },
  "another database": async () => {
    await client.save({ key: client.key(["Db", 1]), data: { from: "first" } });
    await second.save({ key: second.key(["Db", 1]), data: { from: "second" } });
    assert.strictEqual((await client.get(client.key(["Db", 1])))[0].from, "first");
    assert.strictEqual((await second.get(second.key(["Db", 1])))[0].from, "second");
  },
  "reads the past": async () => {
    const key = client.key(["Past", 1]);
    await client.save({ key, data: { number: 1 } });
    // The client sends whole seconds.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    const between = Date.now();
    await client.save({ key, data: { number: 2 } });
    assert.strictEqual((await client.get(key, { readTime: between }))[0].number, 1);
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
