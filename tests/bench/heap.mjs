// usage: node heap.mjs NODE_MODULES FOLDER MODULE…  prints {"module": bytes of heap its import takes}
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
mp.runPython('import sys; sys.path.insert(0, "/unit"); import coupler');
const taken = {};
for (const module of modules) {
  const before = used();
  mp.runPython(`import ${module}`);
  taken[module] = used() - before;
}
console.log(JSON.stringify(taken));
