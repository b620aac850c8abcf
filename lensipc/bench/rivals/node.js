// SPDX-License-Identifier: MIT
// Node: `node node.js TASK`, with workers (worker_threads) or children (child_process, serialization "advanced": v8's).
// What the messages are is the structured clone of both. Says "ready", waits for "go", prints one report, and ends when
// its standard input does.

"use strict";

const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const { fork } = require("child_process");

const SMALL = { id: 17, name: "initialize", ok: true, v: 3.14, tags: ["a", "b"] };
const WINDOW = 4; // arrays on their way at a time: neither kind of channel holds its sender back
const MARK = 4096; // small messages between two looks at what the receivers have taken

const now = () => Number(process.hrtime.bigint());
const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6; };
const later = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// ---- a renderer ----

function renderer(task, port) {
  const total = task.warmup + task.count;
  let heard = 0, begun = [0, 0], ended = [0, 0], cpuBegun = 0;
  const report = () => ({ heard, begun, ended, cpu: cpu() - cpuBegun });
  const listener = () => {
    heard++;
    if (heard === task.warmup) { begun = [heard, now()]; cpuBegun = cpu(); }
    if (heard === total) { ended = [heard, now()]; port.send({ report: report() }); }
  };

  const pending = new Map();
  let number = 0;
  const ask = () => new Promise((resolve) => { pending.set(++number, resolve); port.send({ ask: number, value: SMALL }); });
  async function askAll() {
    let times = [], deadline = 0;
    const work = async (count) => {
      let left = count;
      const one = async () => {
        while (left-- > 0) {
          const begin = now();
          await ask();
          const end = now();
          times.push(end - begin);
          if (end > deadline) break;
        }
      };
      deadline = now() + 1e9 * task.seconds;
      await Promise.all(Array.from({ length: task.flight }, one));
    };
    await work(task.warmup);
    times = [];
    cpuBegun = cpu();
    const begin = now();
    await work(task.count);
    port.send({ report: { times, asked: times.length, took: now() - begin, cpu: cpu() - cpuBegun, warm: true } });
  }

  port.on((message) => {
    if (message === "ask") askAll();
    else if (message.answer) { pending.get(message.answer)(message.value); pending.delete(message.answer); }
    else {
      listener(message);
      if (task.payload === "array" || heard % MARK === 0) port.send("taken");
    }
  });
  port.send("ready");
}

// ---- main ----

async function main(task, threads) {
  const peers = Array.from({ length: task.renderers }, () => {
    const peer = { taken: 0 };
    if (threads) {
      const worker = new Worker(__filename, { workerData: task });
      peer.port = { send: (message, moved) => worker.postMessage(message, moved), on: (f) => worker.on("message", f) };
    } else {
      const child = fork(__filename, [JSON.stringify({ ...task, child: true })], { serialization: "advanced" });
      peer.pid = child.pid;
      peer.port = { send: (message) => child.send(message), on: (f) => child.on("message", f) };
    }
    return peer;
  });
  let wake = () => {};
  const changed = () => new Promise((resolve) => { wake = resolve; });
  for (const peer of peers) {
    peer.port.on((message) => {
      if (message.ask) { peer.port.send({ answer: message.ask, value: message.value }); return; }
      if (message === "ready") peer.ready = true;
      else if (message === "taken") peer.taken++;
      else if (message.report) peer.report = message.report;
      wake();
    });
  }
  const all = async (what) => { while (!peers.every((peer) => peer[what])) await changed(); };
  await all("ready");
  console.log(JSON.stringify({ pids: peers.map((peer) => peer.pid).filter((pid) => pid) }));
  await new Promise((resolve) => process.stdin.once("data", resolve));

  let begun = cpu();
  let warm = true;
  if (task.kind === "calls") {
    warm = false;
    for (const peer of peers) peer.port.send("ask");
  } else {
    const array = new Float32Array(task.size / 4).fill(1);
    let sent = 0;
    for (const count of [task.warmup, task.count]) {
      if (count === task.count && sent) { begun = cpu(); if (task.pause) await later(task.pause); }
      for (let i = 0; i < count; i++) {
        for (const peer of peers) {
          if (task.payload !== "array") peer.port.send(SMALL);
          else if (threads) { const copy = array.slice(); peer.port.send(copy, [copy.buffer]); } // one copy, then moved
          else peer.port.send(array);
        }
        sent++;
        if (task.payload === "array") while (peers.some((peer) => sent - peer.taken >= WINDOW)) await changed();
        else if (sent % MARK === 0) while (peers.some((peer) => sent - peer.taken * MARK >= 4 * MARK)) await changed();
      }
    }
  }
  await all("report");
  console.log(JSON.stringify({ main: { cpu: cpu() - begun, warm }, renderers: peers.map((peer) => peer.report) }));
  process.stdin.on("end", () => process.exit(0)).resume();
}

if (!isMainThread) {
  renderer(workerData, { send: (message) => parentPort.postMessage(message), on: (f) => parentPort.on("message", f) });
} else {
  const task = JSON.parse(process.argv[2]);
  if (task.child) renderer(task, { send: (message) => process.send(message), on: (f) => process.on("message", f) });
  else main(task, task.threads);
}
