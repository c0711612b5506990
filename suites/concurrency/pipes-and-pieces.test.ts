import { concat, pattern, text } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { NotifyCode, Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { type LentDevice, lendDevice, polled } from '../lib/lent-device.ts';
import { answerRequest, forgetName, INTERRUPT, nextRequest, outHeader } from '../lib/raw-server.ts';

/** Whatever goes through /dev/fuse goes through a pipe as well, and into and out of several buffers. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const [EIO, EACCES] = [-5, -13];
/** `fuse_in_header`, and what FORGET, INTERRUPT and BATCH_FORGET have behind it. Bytes. */
const HEADER = 40;
const REST = 8;
/** `fuse_forget_one`. Bytes. */
const ONE = 16;
/** `fuse_write_in`. Bytes. */
const WRITE_IN = 40;
/** PIPE_DEF_BUFFERS */
const USUAL_BUFFERS = 16;

const PLAIN = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;

/** Waits until something can be read from the device. */
async function untilAsked(on: LentDevice): Promise<void> {
  if ((await polled(on, 'in|out')) !== 'in|out') throw new Error('no request came');
}

/** What comes out of the device next, through a pipe. */
async function spliced(on: LentDevice): Promise<{ raw: Uint8Array; view: DataView; opcode: number }> {
  await untilAsked(on);
  const [fdIn, fdOut] = await on.server.pipe({ flags: 'O_NONBLOCK' });
  const length = await on.server.splice({ fdIn: on.device, fdOut, length: USUAL_BUFFERS * PAGE });
  const raw = length === 0 ? new Uint8Array() : await on.server.read({ fd: fdIn, count: length });
  for (const fd of [fdIn, fdOut]) await on.server.close({ fd });
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return { raw, view, opcode: raw.length < HEADER ? -1 : view.getUint32(4, true) };
}

guestTest(
  'what is told to the server without an answer comes whole through a pipe as well',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    // Of a pipe there is never more room than its buffers have.
    const on = await lendDevice(guest, stack, { ...PLAIN, init: { maxWrite: PAGE } });
    const { fuse, client, server, device } = on;
    const nodes: bigint[] = [];
    for (const name of ['a', 'b', 'c']) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file(name) });
      nodes.push(BigInt(await fuse.nodeid(`/${name}`)));
    }
    await on.takeOver();

    t.is(await forgetName(server, device, 'a'), 'ok');
    const one = await spliced(on);
    t.is(one.raw.length, HEADER + REST, 'FORGET: bytes');
    t.is(one.opcode, Opcode.FORGET);
    t.is(one.view.getBigUint64(16, true), nodes[0] ?? 0n, 'FORGET: the node');
    t.is(one.view.getBigUint64(HEADER, true), 1n, 'FORGET: lookups');

    for (const name of ['b', 'c']) t.is(await forgetName(server, device, name), 'ok');
    const batch = await spliced(on);
    t.is(batch.raw.length, HEADER + REST + 2 * ONE, 'BATCH_FORGET: bytes');
    t.is(batch.opcode, Opcode.BATCH_FORGET);
    const forgotten = [0, ONE].map((at) => batch.view.getBigUint64(HEADER + REST + at, true));
    t.deepEqual(forgotten, nodes.slice(1), 'BATCH_FORGET: the nodes');

    const asking = client.errno.stat({ path: fuse.file('none') });
    asking.catch(() => undefined);
    const { unique } = await nextRequest(server, device);
    const stopped = client.kill('SIGSTOP');
    const interrupt = await spliced(on);
    t.is(interrupt.raw.length, HEADER + REST, 'INTERRUPT: bytes');
    t.is(interrupt.opcode, Opcode.INTERRUPT);
    t.is(interrupt.view.getBigUint64(8, true), unique | INTERRUPT, 'INTERRUPT: its number');
    t.is(interrupt.view.getBigUint64(HEADER, true), unique, 'INTERRUPT: of which request');
    t.is(await answerRequest(server, device, { unique, error: EIO }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');
  },
);

guestTest(
  'a request with more pages than a pipe usually has goes into one that was made larger',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const pages = USUAL_BUFFERS + 4;
    const init = { maxWrite: pages * PAGE } as const;
    const on = await lendDevice(guest, stack, { ...PLAIN, init });
    const { fuse, client, server, device } = on;
    // Once told, no write asks for capabilities of the file any more.
    await fuse.fail('GETXATTR', 'ENOSYS');
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(pages * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'first', offset: 0 });
    await client.fstat({ fd });
    await on.takeOver();
    const data = pattern(pages * PAGE, 7);
    const writing = client.errno.pwrite({ fd, data, offset: 0 });
    writing.catch(() => undefined);
    await untilAsked(on);
    const [fdIn, fdOut] = await server.pipe({});
    await server.fcntl({ fd: fdOut, cmd: 'F_SETPIPE_SZ', arg: 2 * USUAL_BUFFERS * PAGE });
    const moved = server.splice({ fdIn: device, fdOut, length: 2 * USUAL_BUFFERS * PAGE });
    const length = await moved.catch((error: unknown) => String(error));
    t.is(length, HEADER + WRITE_IN + data.length, 'how much is moved');
    const raw = await server.read({ fd: fdIn, count: HEADER + WRITE_IN + data.length });
    t.deepEqual(raw.subarray(HEADER + WRITE_IN), data, 'the data in the pipe');
    const unique = new DataView(raw.buffer, raw.byteOffset).getBigUint64(8, true);
    const body = concat(u32(data.length), u32(0));
    t.is(await answerRequest(server, device, { unique, body }), 'ok');
    t.is(await writing, 'ok', 'what the writer is told');
    await fuse.abort();
  },
);

guestTest('of an answer that was spliced to the device whole nothing stays in the pipe', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  const on = await lendDevice(guest, stack, PLAIN);
  const { fuse, client, server, device } = on;
  await on.takeOver();
  const [fdIn, into] = await server.pipe({ flags: 'O_NONBLOCK' });
  for (const round of ['first', 'second']) {
    const asking = client.errno.stat({ path: fuse.file('none') });
    const { unique } = await nextRequest(server, device);
    const answer = outHeader({ unique, error: EACCES, bodyBytes: 0 });
    await server.write({ fd: into, data: answer });
    t.is(await server.poll({ fd: fdIn }), 'in', `${round} round: the answer is in the pipe`);
    t.is(await server.splice({ fdIn, fdOut: device, length: answer.length }), answer.length);
    t.is(await asking, 'EACCES');
    t.is(await server.poll({ fd: fdIn }), '', `${round} round: there is nothing to read in the pipe`);
  }
});

guestTest(
  'pages that the server gives away to be stored are copied into those that are mapped',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    const { fuse, client, server, device } = await lendDevice(guest, stack, { ...PLAIN, init });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    const length = 2 * PAGE;
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(length).fill(0x6f) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const map = await client.mmap({ fd, length, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    const mapped = (): Promise<Uint8Array> => client.mread({ map, offset: 0, length });
    t.deepEqual(await mapped(), new Uint8Array(length).fill(0x6f), 'mapped');
    const after = await fuse.position();
    const node = BigInt(await fuse.nodeid('/f'));
    for (const flags of ['', 'SPLICE_F_MOVE']) {
      const data = pattern(length, flags.length);
      const head = concat(u64(node), u64(0n), u32(length), u32(0));
      const header = outHeader({ unique: 0n, error: NotifyCode.STORE, bodyBytes: head.length + length });
      const [fdIn, into] = await server.pipe({});
      await server.write({ fd: into, data: concat(header, head) });
      // What fills a page gets one of its own.
      for (const at of [0, PAGE]) await server.write({ fd: into, data: data.subarray(at, at + PAGE) });
      const whole = header.length + head.length + length;
      t.is(
        await server.splice({ fdIn, fdOut: device, length: whole, flags }),
        whole,
        `taken, flags ${flags}`,
      );
      for (const each of [fdIn, into]) await server.close({ fd: each });
      t.deepEqual(await mapped(), data, `the mapping, flags ${flags}`);
      t.deepEqual(await client.pread({ fd, count: length, offset: 0 }), data, `a read, flags ${flags}`);
    }
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'it is what was stored');
    await client.munmap({ map });
    await client.close({ fd });
  },
);

guestTest(
  'a request is read into buffers of any length, and answered out of several, byte for byte',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await lendDevice(guest, stack, PLAIN);
    const { fuse, client, server, device } = on;
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.stat({ path: fuse.file('f') });
    const node = BigInt(await fuse.nodeid('/f'));
    await on.takeOver();
    const value = pattern(6000, 3);
    const name = 'user.in-pieces';
    for (const [counts, ends] of [
      [[16, 24, 3, 2 ** 21], [1000]],
      [
        [HEADER, 2 ** 21],
        [1, 4097, 4098],
      ],
    ] as const) {
      const getting = client.getxattr({ path: fuse.file('f'), name, size: 8000 });
      getting.catch(() => undefined);
      await untilAsked(on);
      const raw = await server.readv({ fd: device, counts: [...counts] });
      const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
      t.is(view.getUint32(0, true), raw.length, `read into ${counts.join(', ')}: its length`);
      t.is(view.getUint32(4, true), Opcode.GETXATTR);
      t.is(view.getBigUint64(16, true), node, `read into ${counts.join(', ')}: the node`);
      t.is(text(raw.subarray(HEADER + 8)), `${name}\0`, `read into ${counts.join(', ')}: the name`);
      const unique = view.getBigUint64(8, true);
      const chunks = [outHeader({ unique, bodyBytes: value.length })];
      for (const [nth, from] of [0, ...ends].entries()) chunks.push(value.subarray(from, ends[nth]));
      t.is(await server.writev({ fd: device, chunks }), 16 + value.length, 'taken whole');
      t.deepEqual(await getting, value, `answered in pieces that end at ${ends.join(', ')}`);
    }
  },
);
