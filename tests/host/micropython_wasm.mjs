// MicroPython in WebAssembly as a command: node micropython_wasm.mjs NODE_MODULES FIRMWARE TESTS MODULE…
// runs the unit tests of each module as tests/unit/run_file.py does, one JSON line a test.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
const [, , nodeModules, firmware, tests, ...modules] = process.argv;
const { loadMicroPython } = await import(
  join(nodeModules, '@micropython/micropython-webassembly-pyscript/micropython.mjs'));

function copy(mp, from, to) {
  mp.FS.mkdir(to);
  for (const name of readdirSync(from)) {
    const source = join(from, name);
    if (statSync(source).isDirectory()) { if (name !== '__pycache__') copy(mp, source, `${to}/${name}`); }
    else mp.FS.writeFile(`${to}/${name}`, readFileSync(source));
  }
}

for (const module of modules) {
  // A fresh interpreter for each file, as for the other ones.
  const mp = await loadMicroPython({ heapsize: 8 << 20, stdout: (line) => console.log(line) });
  copy(mp, firmware, '/firmware');
  copy(mp, tests, '/tests');
  mp.runPython(`import sys\nsys.argv[:] = ["run_file.py", "/firmware", "/tests", "${module}"]`);
  mp.runPython(readFileSync(join(tests, 'run_file.py'), 'utf8'));
}
