import { bytes, concat, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { eventually } from '../lib/eventually.ts';
import { NotifyCode, OpenFlag, type NotifyName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest, outHeader } from '../lib/raw-server.ts';

/** A server whose buffer ends in memory that there is not: what was copied before that counts for nothing. */

const PAGE = 4096;
const ROOM = 2 * PAGE;
const LONG = 100_000;
const HEADER = 40;
const OUT_HEADER = 16;

interface Bench {
  readonly fuse: FuseMount;
  readonly client: Client;
  /** In the place of the server, which is gone. */
  readonly server: Client;
  readonly device: number;
  /** Two pages, behind which there is nothing for two more. */
  readonly map: number;
}

async function bench(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  openFlags: number = OpenFlag.KEEP_CACHE,
): Promise<Bench> {
  const init = { maxWrite: PAGE, dropFlags: ['AUTO_INVAL_DATA'] } as const;
  const fuse = stack.use(
    await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG, entryValidS: LONG }),
  );
  await fuse.answerOpen('OPEN', { openFlags });
  await fuse.fail('GETXATTR', 'ENOSYS');
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(4 * PAGE).fill(0x6f) });
  await client.stat({ path: fuse.file('f') });
  const path = `${await guest.directory('tmpfs')}/memory`;
  await server.writeFile({ path, data: new Uint8Array(2 * PAGE) });
  const fd = await server.open({ path, flags: 'O_RDWR' });
  const map = await server.mmap({
    fd,
    length: 4 * PAGE,
    prot: 'PROT_READ|PROT_WRITE',
    flags: 'MAP_SHARED',
  });
  await server.close({ fd });
  return { fuse, client, server, device: await fuse.server.lendDevice(server), map };
}

/** Reads a request into memory of which so many bytes are there. */
function readErrno({ server, device, map }: Bench, there: number): Promise<string> {
  return server.errno.readInto({ fd: device, map, offset: 2 * PAGE - there, length: ROOM });
}

/** Writes these bytes, and as many as are to come, from memory where there are no more than these. */
async function writeErrno(
  { server, device, map }: Bench,
  there: Uint8Array,
  toCome: number,
): Promise<string> {
  const offset = 2 * PAGE - there.length;
  await server.mwrite({ map, offset, data: there });
  return server.errno.writeFrom({ fd: device, map, offset, length: there.length + toCome });
}

/** What can be read from the device, as soon as it is that. */
function polled({ server, device }: Bench, events: string): Promise<string> {
  return eventually(
    () => server.poll({ fd: device }),
    (seen) => seen === events,
  );
}

guestTest(
  'a request that is read into memory that is not there is EIO, and the server reads the next one',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { fuse, client, server, device } = on;
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'o', offset: 0 });
    await fuse.server.kill('SIGKILL');
    const calls = {
      'a name': () => client.errno.stat({ path: fuse.file('none') }),
      'a long attribute': () =>
        client.errno.setxattr({ path: fuse.file('f'), name: 'user.x', data: pattern(PAGE) }),
      'a WRITE': () => client.errno.pwrite({ fd, data: pattern(PAGE), offset: 0 }),
    };
    for (const [what, call] of Object.entries(calls)) {
      for (const there of [
        0,
        HEADER - 1,
        HEADER,
        HEADER + 1,
        ...(what === 'a WRITE' ? [HEADER + 40, 200] : []),
      ]) {
        const calling = call();
        t.is(await polled(on, 'in|out'), 'in|out', `${what}: it waits to be read`);
        t.is(await readErrno(on, there), 'EFAULT', `${what}, room for ${there} bytes: the server`);
        t.is(await calling, 'EIO', `${what}, room for ${there} bytes: who has asked`);
        t.is(await fuse.waiting(), 0);
      }
    }
    const asking = client.errno.stat({ path: fuse.file('none') });
    const request = await nextRequest(server, device);
    t.is(await answerRequest(server, device, { unique: request.unique, error: -5 }), 'ok');
    t.is(await asking, 'EIO', 'the next request, and its answer');
    await fuse.abort();
  },
);

guestTest(
  'forgets and interrupts that are read into memory that is not there are lost, and nothing else',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { fuse, client, server, device } = on;
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const name of names) await client.writeFile({ path: fuse.backing(name), data: name });
    const forget = (name: string): Promise<string> => {
      const body = concat(u64(1n), u32(1), u32(0), new Uint8Array(Buffer.from(`${name}\0`)));
      return answerRequest(server, device, { unique: 0n, error: NotifyCode.INVAL_ENTRY, body });
    };
    for (const name of names) await client.stat({ path: fuse.file(name) });
    await fuse.server.kill('SIGKILL');
    const [a, b, c, d, e, last] = names.map((name) => () => forget(name));
    for (const [there, some] of [
      [0, [a]],
      [HEADER, [b]],
      [HEADER, [c, d]],
      [HEADER + 8 + 4, [e, last]],
    ] as const) {
      for (const each of some) t.is(await each?.(), 'ok');
      t.is(await server.poll({ fd: device }), 'in|out', `${some.length} to be forgotten`);
      t.is(await readErrno(on, there), 'EFAULT', `room for ${there} bytes`);
      t.is(await server.poll({ fd: device }), 'out', `room for ${there} bytes: they are gone`);
    }
    for (const there of [0, HEADER]) {
      const asking = client.errno.stat({ path: fuse.file('none') });
      const request = await nextRequest(server, device);
      const stopped = client.kill('SIGSTOP');
      t.is(await polled(on, 'in|out'), 'in|out', 'an interrupt waits to be read');
      t.is(await readErrno(on, there), 'EFAULT', `an interrupt, room for ${there} bytes`);
      t.is(await server.poll({ fd: device }), 'out', 'it is gone');
      t.is(await answerRequest(server, device, { unique: request.unique, error: -5 }), 'ok');
      await stopped;
      await client.kill('SIGCONT');
      t.is(await asking, 'EIO', 'what was interrupted is answered all the same');
    }
  },
);

guestTest(
  'an answer from memory that is not there is EFAULT: without its header no answer, else EIO',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack, OpenFlag.DIRECT_IO);
    const { fuse, client, server, device } = on;
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.symlink({ target: 'elsewhere', path: fuse.file('link') });
    const directory = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await fuse.server.kill('SIGKILL');
    const entry = entryAnswer({ nodeid: 0n, entryValidS: 0 });
    const lookup = (): Promise<string> => client.errno.stat({ path: fuse.file('none') });
    const read = (): Promise<string> => client.errno.pread({ fd, count: PAGE, offset: 0 });
    const list = (): Promise<string> => client.errno.readdirFd({ fd: directory });
    const link = (): Promise<string> => client.errno.readlink({ path: fuse.file('link') });
    for (const [what, call, body, there] of [
      ['half of a header', lookup, entry, OUT_HEADER - 1],
      ['a header', lookup, entry, OUT_HEADER],
      ['a header and half of an entry', lookup, entry, OUT_HEADER + 64],
      ['a header and no data', read, pattern(PAGE), OUT_HEADER],
      ['a header and half of a page', read, pattern(PAGE), OUT_HEADER + PAGE / 2],
      ['a header and no names', list, new Uint8Array(PAGE), OUT_HEADER],
      ['a header and half of the names', list, new Uint8Array(PAGE), OUT_HEADER + PAGE / 2],
      ['a header and half of a target', link, bytes('elsewhere'), OUT_HEADER + 4],
    ] as const) {
      const asking = call();
      const { unique } = await nextRequest(server, device);
      const whole = concat(outHeader({ unique, bodyBytes: body.length }), body);
      t.is(await writeErrno(on, whole.subarray(0, there), whole.length - there), 'EFAULT', what);
      const waits = there < OUT_HEADER;
      const again = await answerRequest(server, device, { unique, error: -13 });
      t.is(again, waits ? 'ok' : 'ENOENT', `${what}: whether it waits for an answer still`);
      t.is(await asking, waits ? 'EACCES' : 'EIO', `${what}: who has asked`);
    }
    await fuse.abort();
  },
);

/** Everything that a notification has before what it may have as data; and how much of that is there. */
const NOTIFICATIONS: readonly (readonly [
  NotifyName,
  (node: bigint) => Uint8Array,
  there: readonly number[],
])[] = [
  ['POLL', () => u64(1n), [0, 4]],
  ['INVAL_INODE', (node) => concat(u64(node), u64(0n), u64(0n)), [0, 12]],
  ['INVAL_ENTRY', () => concat(u64(1n), u32(1), u32(0), u32(0x66).subarray(0, 2)), [0, 16, 17]],
  ['DELETE', (node) => concat(u64(1n), u64(node), u32(1), u32(0), u32(0x66).subarray(0, 2)), [0, 24, 25]],
  ['STORE', (node) => concat(u64(node), u64(0n), u32(PAGE), u32(0), pattern(PAGE)), [0, 12]],
  ['RETRIEVE', (node) => concat(u64(7n), u64(node), u64(0n), u32(PAGE), u32(0)), [0, 16]],
];

for (const [name, bodyOf, places] of NOTIFICATIONS) {
  guestTest(`of ${name} from memory that is not there nothing is done`, async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { fuse, client, server, device } = on;
    const node = BigInt(await fuse.nodeid('/f'));
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.pread({ fd, count: PAGE, offset: 0 });
    await client.fstat({ fd });
    const after = await fuse.position();
    const body = bodyOf(node);
    const header = outHeader({ unique: 0n, error: NotifyCode[name], bodyBytes: body.length });
    for (const there of places) {
      const whole = concat(header, body.subarray(0, there));
      t.is(await writeErrno(on, whole, body.length - there), 'EFAULT', `${there} bytes behind the header`);
    }
    t.is((await client.stat({ path: fuse.file('f') })).nlink, 1);
    t.is(text(await client.pread({ fd, count: 4, offset: 0 })), 'oooo');
    t.deepEqual(await fuse.opcodes({ after }), [], 'name, attributes and data are those of before');
    t.is(await answerRequest(server, device, { unique: 0n, error: NotifyCode[name], body }), 'ok', 'whole');
    await client.close({ fd });
  });
}

guestTest(
  'of STORE from memory that ends in a page, pages before it count, and it does not',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { fuse, client } = on;
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    await client.fstat({ fd });
    const after = await fuse.position();
    const head = concat(u64(BigInt(await fuse.nodeid('/f'))), u64(0n), u32(3 * PAGE), u32(0));
    const header = outHeader({ unique: 0n, error: NotifyCode.STORE, bodyBytes: head.length + 3 * PAGE });
    const data = new Uint8Array(PAGE + 100).fill(0x6e);
    t.is(await writeErrno(on, concat(header, head, data), 2 * PAGE - 100), 'EFAULT');
    const first = async (page: number): Promise<string> =>
      text(await client.pread({ fd, count: 1, offset: page * PAGE }));
    t.is(await first(0), 'n', 'a page that came whole');
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'and is in the cache');
    t.is(await first(1), 'o', 'one of which the end is missing');
    const [read] = await fuse.requests({ opcode: 'READ', after });
    t.is(read?.args['offset'], PAGE, 'the server is asked for it');
    t.is(await first(2), 'o', 'one that did not come');
    await client.close({ fd });
  },
);
