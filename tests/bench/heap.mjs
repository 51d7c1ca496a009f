// usage: node heap.mjs NODE_MODULES FOLDER MODULE…  prints {"module": bytes of heap its import takes}
// -MODULE,MODULE… : the bytes that forgetting them as the hal does gives back, negative.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
const [, , nodeModules, folder, ...modules] = process.argv;
const { loadMicroPython } = await import(
  join(nodeModules, '@micropython/micropython-webassembly-pyscript/micropython.mjs'));
const said = [];
const mp = await loadMicroPython({ heapsize: 1 << 20, stdout: (line) => said.push(line) });

function copy(from, to) {
  mp.FS.mkdir(to);
  for (const name of readdirSync(from)) {
    const source = join(from, name);
    if (statSync(source).isDirectory()) copy(source, `${to}/${name}`);
    else mp.FS.writeFile(`${to}/${name}`, readFileSync(source));
  }
}

// gc.collect() inside a script does nothing here: it works between two calls from JavaScript.
function used() {
  mp.runPython('import gc');
  mp.runPython('gc.collect()');
  said.length = 0;
  mp.runPython('print(gc.mem_alloc())');
  return Number(said.at(-1));
}

copy(folder, '/unit');
// What is built in on the chip and missing here: the hal asks for more than a name only when it is used.
mp.FS.mkdir('/chip');
for (const name of ['esp32', 'machine', 'network', 'socket', 'tls']) mp.FS.writeFile(`/chip/${name}.py`, '');
mp.runPython('import os; os.urandom = None');
mp.runPython('import sys; sys.path.insert(0, "/chip"); sys.path.insert(0, "/unit")');
mp.runPython('import asyncio, json, select, esp32, machine, network, socket, tls, coupler');
const taken = {};
for (const module of modules) {
  const before = used();
  if (module.startsWith('-')) {
    const names = module.slice(1).split(',').map((name) => `"${name}"`);
    mp.runPython(`from coupler.hal.micropython import Hal; Hal.forget(None, ${names})`);
  } else mp.runPython(`import ${module}`);
  taken[module] = used() - before;
}
console.log(JSON.stringify(taken));
