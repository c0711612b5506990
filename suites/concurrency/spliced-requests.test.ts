import { pattern } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest, OUT_HEADER_BYTES, outHeader } from '../lib/raw-server.ts';

/** Requests that a server takes from /dev/fuse by splice(2): headers in a page of their own, data as pages of the file. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `fuse_in_header` and `fuse_write_in`, before the data of a WRITE. Bytes. */
const HEADERS = 40 + 40;

interface Spliced {
  readonly opcode: number;
  readonly length: number;
  readonly unique: bigint;
  readonly offset: number;
  readonly size: number;
  readonly data: Uint8Array;
}

function parsed(raw: Uint8Array): Spliced {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return {
    length: view.getUint32(0, true),
    opcode: view.getUint32(4, true),
    unique: view.getBigUint64(8, true),
    offset: Number(view.getBigUint64(48, true)),
    size: view.getUint32(56, true),
    data: raw.subarray(HEADERS),
  };
}

/** An open file of two pages whose server has been replaced by a client, `server`, that has its device. */
async function takenOver(
  guest: TestGuest,
  client: Client,
  openFlags: number,
): Promise<{ fuse: FuseMount; server: Client; device: number; fd: number }> {
  const init = { maxWrite: PAGE };
  const fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG, entryValidS: LONG });
  await fuse.answerOpen('OPEN', { openFlags });
  // Once told, no write asks for capabilities of the file any more.
  await fuse.fail('GETXATTR', 'ENOSYS');
  await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
  await client.fstat({ fd });
  const server = await guest.client();
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  return { fuse, server, device, fd };
}

/** Waits until a request can be read, and moves it to a pipe. @returns how much was moved, or the errno. */
async function spliceOne(server: Client, device: number, fdOut: number): Promise<number | string> {
  const ready = await eventually(
    () => server.poll({ fd: device }),
    (events) => events === 'in|out',
  );
  if (ready !== 'in|out') return 'no request came';
  const request = { fdIn: device, fdOut, length: 16 * PAGE };
  return server.splice(request).catch((error: unknown) => {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  });
}

/** `fuse_write_out`. */
function written(size: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(size, 0).buffer);
}

interface Write {
  readonly openFlags: number;
  readonly offset: number;
  readonly length: number;
  /** Of the caller's buffer behind the beginning of a page. */
  readonly misalign: number;
}

const WRITES: Readonly<Record<string, Write>> = {
  'a cached write into the middle of a page': { openFlags: 0, offset: 101, length: 50, misalign: 0 },
  'a cached write to the end of a page': { openFlags: 0, offset: 2 * PAGE - 7, length: 7, misalign: 0 },
  'a cached write of a page': { openFlags: 0, offset: PAGE, length: PAGE, misalign: 0 },
  'a direct write': { openFlags: OpenFlag.DIRECT_IO, offset: 101, length: 50, misalign: 0 },
  'a direct write from two pages of the caller': {
    openFlags: OpenFlag.DIRECT_IO,
    offset: 33,
    length: PAGE,
    misalign: 1000,
  },
};

for (const [what, { openFlags, offset, length, misalign }] of Object.entries(WRITES)) {
  guestTest(`${what} is spliced from the device with its headers and its data`, async (t, guest) => {
    await using client = await guest.client();
    const { fuse, server, device, fd } = await takenOver(guest, client, openFlags);
    await using _fuse = fuse;
    await using _server = server;
    const data = pattern(length, 7);
    const writing = client.pwrite({ fd, data, offset, misalign });
    writing.catch(() => undefined);
    const [end, fdOut] = await server.pipe({});
    t.is(await spliceOne(server, device, fdOut), HEADERS + length, 'how much is moved');
    const request = parsed(await server.read({ fd: end, count: 16 * PAGE }));
    const { unique, ...rest } = request;
    t.deepEqual(
      rest,
      { opcode: Opcode.WRITE, length: HEADERS + length, offset, size: length, data },
      'the request in the pipe',
    );
    t.is(await answerRequest(server, device, { unique, body: written(length) }), 'ok');
    t.is(await writing, length, 'what the writer is told');
  });
}

/** A cached WRITE of this takes three buffers of a pipe: the headers and the parts of two pages. */
const TWO_PAGES = { offset: 101, data: pattern(PAGE, 7) };
const BUFFERS = 3;

guestTest('a request that takes more buffers than a pipe has is refused with EIO', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, openFlags] of [
    ['a cached write', 0],
    ['a direct write', OpenFlag.DIRECT_IO],
  ] as const) {
    const { fuse, server, device, fd } = await takenOver(guest, client, openFlags);
    await using _fuse = fuse;
    await using _server = server;
    const [, fdOut] = await server.pipe({});
    await server.fcntl({ fd: fdOut, cmd: 'F_SETPIPE_SZ', arg: (BUFFERS - 1) * PAGE });
    // From two pages of the caller, which a direct write is about.
    const writing = client.errno.pwrite({ fd, ...TWO_PAGES, misalign: 1000 });
    t.is(await spliceOne(server, device, fdOut), 'EIO', `${what}: what the server is told`);
    t.is(await writing, 'EIO', `${what}: what the writer is told`);
    t.is(await fuse.waiting(), 0, `${what}: the request is over`);
  }
});

/** Bytes that are in the pipe before, and so take buffers of its four. */
for (const [before, outcome] of [
  [10, HEADERS + PAGE],
  [PAGE + 10, 'EIO'],
] as const) {
  const what = outcome === 'EIO' ? 'one buffer too few' : 'just as many buffers';
  guestTest(
    `a request is ${outcome === 'EIO' ? 'not ' : ''}spliced into a pipe in which ${what} are free`,
    async (t, guest) => {
      await using client = await guest.client();
      const { fuse, server, device, fd } = await takenOver(guest, client, 0);
      await using _fuse = fuse;
      await using _server = server;
      const [end, fdOut] = await server.pipe({});
      await server.fcntl({ fd: fdOut, cmd: 'F_SETPIPE_SZ', arg: 4 * PAGE });
      await server.write({ fd: fdOut, data: pattern(before) });
      const writing = client.errno.pwrite({ fd, ...TWO_PAGES });
      t.is(await spliceOne(server, device, fdOut), outcome);
      t.deepEqual(await server.read({ fd: end, count: before }), pattern(before), 'what the pipe had before');
      await server.fcntl({ fd: end, cmd: 'F_SETFL', arg: 'O_NONBLOCK' });
      if (outcome === 'EIO') {
        t.is(await server.errno.read({ fd: end, count: 1 }), 'EAGAIN', 'no part of the request');
        // Nobody has read its number: it ends with the connection.
        await fuse.abort();
        t.is(await writing, 'ECONNABORTED');
      } else {
        const { unique, data } = parsed(await server.read({ fd: end, count: 2 * PAGE }));
        t.deepEqual(data, TWO_PAGES.data, 'the data in the pipe');
        t.is(await answerRequest(server, device, { unique, body: written(PAGE) }), 'ok');
        t.is(await writing, 'ok');
      }
    },
  );
}

/** Memory of a client that can be changed at any time. */
async function memoryOf(guest: TestGuest, client: Client, length: number): Promise<number> {
  const path = `${await guest.directory('tmpfs')}/memory`;
  await client.writeFile({ path, data: new Uint8Array(length) });
  const fd = await client.open({ path, flags: 'O_RDWR' });
  return client.mmap({ fd, length, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
}

guestTest(
  'what a direct write had stays in the pipe when the writer has other things in its memory',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, server, device, fd } = await takenOver(guest, client, OpenFlag.DIRECT_IO);
    await using _fuse = fuse;
    await using _server = server;
    const map = await memoryOf(guest, client, PAGE);
    const data = pattern(PAGE, 7);
    await client.mwrite({ map, offset: 0, data });
    const writing = client.errno.writeFrom({ fd, map, offset: 0, length: PAGE });
    writing.catch(() => undefined);
    const [end, fdOut] = await server.pipe({});
    t.is(await spliceOne(server, device, fdOut), HEADERS + PAGE, 'how much is moved');
    const header = parsed(await server.read({ fd: end, count: HEADERS }));
    t.is(await answerRequest(server, device, { unique: header.unique, body: written(PAGE) }), 'ok');
    t.is(await writing, 'ok');
    await client.mwrite({ map, offset: 0, data: pattern(PAGE, 8) });
    t.deepEqual(await server.read({ fd: end, count: PAGE }), data, 'the data in the pipe');
  },
);

guestTest(
  'a direct read is answered with whole pages that are given away, and has the data of them',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, server, device, fd } = await takenOver(guest, client, OpenFlag.DIRECT_IO);
    await using _fuse = fuse;
    await using _server = server;
    const map = await memoryOf(guest, client, 2 * PAGE);
    // The pages are there and in use by somebody.
    await client.mwrite({ map, offset: 0, data: new Uint8Array(2 * PAGE).fill(0x6f) });
    await client.lseek({ fd, offset: 0, whence: 'SEEK_SET' });
    const reading = client.errno.readInto({ fd, map, offset: 0, length: 2 * PAGE });
    reading.catch(() => undefined);
    const { unique, opcode } = await nextRequest(server, device);
    t.is(opcode, Opcode.READ);
    const data = pattern(2 * PAGE, 9);
    const [fdIn, into] = await server.pipe({});
    await server.write({ fd: into, data: outHeader({ unique, bodyBytes: data.length }) });
    // What fills a page gets one of its own.
    for (const at of [0, PAGE]) await server.write({ fd: into, data: data.subarray(at, at + PAGE) });
    const length = OUT_HEADER_BYTES + data.length;
    t.is(await server.splice({ fdIn, fdOut: device, length, flags: 'SPLICE_F_MOVE' }), length, 'taken whole');
    t.is(await reading, 'ok');
    t.deepEqual(await client.mread({ map, offset: 0, length: 2 * PAGE }), data, 'what was read');
    await server.write({ fd: into, data: pattern(PAGE) });
    t.deepEqual(await client.mread({ map, offset: 0, length: 2 * PAGE }), data, 'and stays');
  },
);
