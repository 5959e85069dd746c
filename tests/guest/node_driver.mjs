// Drive the guest with Node's own WASI: node node_driver.mjs kv.wasm DIRECTORY NAME
// Puts each [key, value] (hex) of a JSON list on stdin as a durable commit, prints the content the same way.
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { WASI } from "node:wasi";

// kv_guest.h
const COUNT_AT = 32, HANDLE_AT = 60, DATA_ADDRESS_AT = 64, KEY_AT = 88;
const OK = 0, NEEDS_SYNC = 3, AGAIN = 4, CREATE = 2, DURABLE = 4, IN_FILE = 0;

const [wasm, directory, name] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", preopens: { "/db": directory } });
const module = await WebAssembly.compile(readFileSync(wasm));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
wasi.initialize(instance);
const { memory, ...exported } = instance.exports;

const bytes = (at, length) => Buffer.from(memory.buffer, at, length);
const word = (at) => bytes(at, 4).readUInt32LE();

function call(what, ...args) {
  let status;
  while ((status = exported[`kv_guest_${what}`](...args)) === AGAIN);
  if (status !== OK && status !== NEEDS_SYNC) throw new Error(`${what}: status ${status}`);
  if (status === NEEDS_SYNC) call("flush");
  return status;
}

function* entries() {
  call("cursor_open", 0, 0, 0, 0, 0);
  const handle = word(block + HANDLE_AT);
  const file = openSync(join(directory, name));
  for (;;) {
    call("cursor_next", handle, 100);
    const count = word(block + COUNT_AT);
    if (count === 0) break;
    for (let i = 0, at = data; i < count; i++, at += word(at + 28)) {
      const offset = Number(bytes(at, 8).readBigUInt64LE()), length = word(at + 8);
      const value = Buffer.alloc(length);
      if (word(at + 16) === IN_FILE) readSync(file, value, 0, length, offset);
      else bytes(offset, length).copy(value);
      yield [bytes(at + 32, word(at + 24)).toString("hex"), value.toString("hex")];
    }
  }
  closeSync(file);
  call("cursor_close", handle);
}

const block = exported.kv_guest_init();
const data = word(block + DATA_ADDRESS_AT);
const path = Buffer.from(`/db/${name}`);
path.copy(bytes(data, path.length));
call("open", path.length, CREATE, 0);
const pairs = JSON.parse(readFileSync(0, "utf8")).map((pair) => pair.map((hex) => Buffer.from(hex, "hex")));
for (const [key, value] of pairs) {
  key.copy(bytes(block + KEY_AT, key.length));
  value.copy(bytes(data, value.length));
  call("put", 0, key.length, value.length, DURABLE);
}
console.log(JSON.stringify([...entries()]));
while (call("close_mark") === NEEDS_SYNC);
call("close");
