import { bytes, concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { NotifyCode, Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { forgetName, nextRequest, outHeader } from '../lib/raw-server.ts';

/** The two queues of /dev/fuse, requests and nodes to be forgotten, of which neither keeps the other waiting. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Of each that the server gets while the other one waits (fs/fuse/dev.c). */
const [REQUESTS, FORGETS] = [8, 16];
const REST = 2;

guestTest(
  'a server that has fallen behind gets requests and forgets in turn, and requests first',
  async (t, guest) => {
    // The last protocol where each node is forgotten by itself.
    const init = { minor: 15, maxBackground: 100, congestionThreshold: 100 } as const;
    const options = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG, init } as const;
    await using fuse = await guest.mountFuse(options);
    await using client = await guest.client();
    await using server = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.NOFLUSH });
    const names = (kind: string, count: number): string[] =>
      Array.from({ length: count }, (_none, nth) => `${kind}${nth}`);
    const opened: number[] = [];
    for (const name of names('open', REQUESTS + REST)) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      opened.push(await client.open({ path: fuse.file(name), flags: 'O_RDONLY' }));
    }
    const known = names('known', FORGETS + REST);
    for (const name of known) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file(name) });
    }
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    for (const name of known) {
      t.is(await forgetName(server, device, name), 'ok', `${name} is forgotten`);
    }
    for (const fd of opened) await client.close({ fd });
    t.is(await fuse.untilWaiting(opened.length), opened.length, 'a RELEASE of each');

    const turns: [string, number][] = [];
    for (let read = 0; read < opened.length + known.length; read++) {
      const { opcode } = await nextRequest(server, device);
      const name = opcode === Opcode.FORGET ? 'FORGET' : opcode === Opcode.RELEASE ? 'RELEASE' : `${opcode}`;
      const last = turns.at(-1);
      if (last?.[0] === name) last[1]++;
      else turns.push([name, 1]);
    }
    t.deepEqual(turns, [
      ['RELEASE', REQUESTS],
      ['FORGET', FORGETS],
      ['RELEASE', REST],
      ['FORGET', REST],
    ]);
    t.is(await server.poll({ fd: device }), 'out', 'no more of either');
    await fuse.abort();
  },
);

/** FUSE_MIN_READ_BUFFER: the least room to read with. Bytes. */
const LEAST_ROOM = 8192;
/** `fuse_in_header` with `fuse_batch_forget_in`, and `fuse_forget_one`. Bytes. */
const [BATCH_HEADER, ONE] = [40 + 8, 16];
const FIT = (LEAST_ROOM - BATCH_HEADER) / ONE;
const MORE = 3;

guestTest(
  'as many nodes are forgotten at once as the server has room for, and the others next',
  async (t, guest) => {
    const options = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;
    // A directory that is listed brings all its nodes.
    const init = { maxWrite: 4096, dropFlags: ['READDIRPLUS_AUTO'] } as const;
    await using fuse = await guest.mountFuse({ ...options, root: 'tmpfs', init });
    await using client = await guest.client();
    await using server = await guest.client();
    const names = Array.from({ length: FIT + MORE }, (_none, nth) => `n${nth}`);
    const calls = names.map((name) => {
      return { call: 'mknod', args: { path: fuse.backing(name), mode: 0o100_600 } } as const;
    });
    await client.batch({ calls, oneThread: true });
    t.is((await client.readdir({ path: fuse.path })).length, names.length);
    const device = await fuse.server.lendDevice(server);
    const { inodes } = await fuse.state();
    await fuse.server.kill('SIGKILL');
    const forgets = names.map((name) => {
      const body = concat(u64(1n), u32(name.length), u32(0), bytes(`${name}\0`));
      const header = outHeader({ unique: 0n, error: NotifyCode.INVAL_ENTRY, bodyBytes: body.length });
      return { call: 'write', args: { fd: device, data: concat(header, body) } } as const;
    });
    const forgotten = await server.batch({ calls: forgets, oneThread: true });
    t.true(
      forgotten.every((each) => 'value' in each),
      'each name is forgotten',
    );
    const nodes: bigint[] = [];
    for (const [what, count] of [
      ['as many as there is room for', FIT],
      ['the others', MORE],
    ] as const) {
      const raw = await server.read({ fd: device, count: LEAST_ROOM });
      const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
      t.is(view.getUint32(4, true), Opcode.BATCH_FORGET, what);
      t.is(raw.length, BATCH_HEADER + count * ONE, `${what}: bytes`);
      t.is(view.getUint32(0, true), raw.length, `${what}: the length in the header`);
      t.is(view.getUint32(40, true), count, `${what}: how many`);
      for (let at = BATCH_HEADER; at < raw.length; at += ONE) {
        nodes.push(view.getBigUint64(at, true));
        if (view.getBigUint64(at + 8, true) !== 1n) t.fail(`${what}: a node was looked up once`);
      }
    }
    const known = new Map(inodes.map(({ path, nodeid }) => [path, BigInt(nodeid)]));
    t.deepEqual(
      nodes,
      names.map((name) => known.get(`/${name}`)),
      'in the order in which they were forgotten',
    );
    t.is(await server.poll({ fd: device }), 'out', 'no more of them');
  },
);
