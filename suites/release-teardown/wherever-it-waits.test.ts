import type { ExecutionContext } from 'ava';
import type { Client } from '../lib/client.ts';
import { DeviceIoctl, NotifyCode } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest } from '../lib/raw-server.ts';

/** A connection has many requests, devices and files: what is done to all of them reaches each of them. */

const EIO = -5;
const RESEND = { unique: 0n, error: NotifyCode.RESEND } as const;
/** Longer than any test. Milliseconds. */
const LONG_MS = 60_000;

/** A further device of the connection. */
async function cloneOf(server: Client, device: number): Promise<number> {
  const clone = await server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
  const arg = new Uint8Array(Int32Array.of(device).buffer);
  await server.ioctl({ fd: clone, request: DeviceIoctl.CLONE, arg });
  return clone;
}

interface Asked {
  readonly asking: readonly Promise<string>[];
  readonly uniques: readonly bigint[];
  readonly server: Client;
  readonly device: number;
}

/** Two requests, each read from a device of its own and not answered. */
async function onTwoDevices(guest: TestGuest, stack: AsyncDisposableStack, fuse: FuseMount): Promise<Asked> {
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  const asking: Promise<string>[] = [];
  const uniques: bigint[] = [];
  for (const from of [device, await cloneOf(server, device)]) {
    const asked = client.errno.stat({ path: fuse.file(`none-${from}`) });
    asked.catch(() => undefined);
    asking.push(asked);
    uniques.push((await nextRequest(server, from)).unique);
  }
  return { asking, uniques, server, device };
}

/** Reads requests that are sent anew, and has each call get the error that it is answered with. */
async function answerAnew(t: ExecutionContext, { asking, uniques, server, device }: Asked): Promise<void> {
  const again: bigint[] = [];
  for (const nth of ['one', 'the other']) {
    t.is(await server.poll({ fd: device }), 'in|out', `${nth} of them is there`);
    const request = await nextRequest(server, device);
    t.true(request.isResent);
    again.push(BigInt.asUintN(63, request.unique));
    t.is(await answerRequest(server, device, { unique: request.unique, error: EIO }), 'ok');
  }
  t.deepEqual(again.sort(), [...uniques].sort(), 'the same as before');
  for (const asked of asking) t.is(await asked, 'EIO');
}

guestTest(
  'requests that were read from any device of a connection end when it is aborted (H3)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const fuse = stack.use(await guest.mountFuse());
    const { asking } = await onTwoDevices(guest, stack, fuse);
    t.is(await fuse.waiting(), 2, 'one of each device');
    await fuse.abort();
    t.is(await fuse.untilWaiting(0), 0, 'neither waits any more');
    for (const asked of asking) t.is(await asked, 'ECONNABORTED');
  },
);

guestTest('requests that were read from any device of a connection are sent anew (H11)', async (t, guest) => {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await guest.mountFuse());
  const { asking, uniques, server, device } = await onTwoDevices(guest, stack, fuse);
  t.is(await answerRequest(server, device, RESEND), 'ok');
  await answerAnew(t, { asking, uniques, server, device });
});

guestTest(
  'a request is answered by the device that it was read from, and by no other of its connection',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using server = await guest.client();
    const mounted = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    const clone = await cloneOf(server, mounted);
    for (const [from, other] of [
      [mounted, clone],
      [clone, mounted],
    ] as const) {
      const what = from === clone ? 'read from the clone' : 'read from the device of the mount';
      const asking = client.errno.stat({ path: fuse.file(`none-${from}`) });
      asking.catch(() => undefined);
      const { unique } = await nextRequest(server, from);
      const answer = { unique, error: EIO };
      t.is(await answerRequest(server, other, answer), 'ENOENT', `${what}: an answer by the other one`);
      t.is(await fuse.waiting(), 1, `${what}: the request waits on`);
      t.is(await answerRequest(server, from, answer), 'ok', `${what}: an answer by that one`);
      t.is(await asking, 'EIO', `${what}: who has asked`);
    }
  },
);

guestTest('whoever polls one of several files is told when their connection ends', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await fuse.rule({ match: { opcode: 'POLL' }, action: { do: 'body', body: new Uint8Array(8) } });
  const names = ['a', 'b', 'c'];
  const fds: number[] = [];
  const polling: Promise<string>[] = [];
  for (const name of names) {
    await client.writeFile({ path: fuse.backing(name), data: name });
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
    fds.push(fd);
    const polled = client.poll({ fd, waitMs: LONG_MS });
    polled.catch(() => undefined);
    polling.push(polled);
    await fuse.waitFor({ opcode: 'POLL', path: `/${name}` }, 'answered');
  }
  await fuse.abort();
  t.deepEqual(await Promise.all(polling), ['err', 'err', 'err']);
  for (const fd of fds) await client.errno.close({ fd });
});

/** FUSE_PQ_HASH_BITS: requests that were read are in one of so many lists, by their number (fs/fuse/fuse_i.h). */
const LIST_BITS = 8;
const GOLDEN_RATIO = 0x61c8_8646_80b5_83ebn;
const FIRST_LIST = 0;
const LAST_LIST = 2 ** LIST_BITS - 1;

function listOf(unique: bigint): number {
  return Number(BigInt.asUintN(64, unique * GOLDEN_RATIO) >> BigInt(64 - LIST_BITS));
}

/**
 * Has the next request be one of a certain list, by having others asked and answered before it; that one is read from
 * the device by `server`, since the mount's own has been stopped. `before`: the last one that was read so.
 */
async function askedOf(
  { list, before }: { readonly list: number; readonly before: bigint },
  { fuse, client, server, device }: { fuse: FuseMount; client: Client; server: Client; device: number },
): Promise<{ asking: Promise<string>; unique: bigint }> {
  const last = BigInt((await fuse.requests()).at(-1)?.unique ?? 0);
  // What was read past the mount's own server is not in its log.
  let wanted = (last > before ? last : before) + 2n;
  let others = 0;
  for (; listOf(wanted) !== list; wanted += 2n) others++;
  const path = fuse.file('other');
  const calls = Array.from({ length: others }, () => ({ call: 'stat' as const, args: { path } }));
  await client.batch({ calls, oneThread: true });
  await fuse.server.kill('SIGSTOP');
  const asking = client.errno.stat({ path: fuse.file(`asked-${list}`) });
  asking.catch(() => undefined);
  const { unique } = await nextRequest(server, device);
  await fuse.server.kill('SIGCONT');
  return { asking, unique };
}

guestTest('requests of any number end with the device that they were read from (H3)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using server = await guest.client();
  const mounted = await fuse.server.lendDevice(server);
  let before = 0n;
  for (const list of [FIRST_LIST, LAST_LIST]) {
    const device = await cloneOf(server, mounted);
    const { asking, unique } = await askedOf({ list, before }, { fuse, client, server, device });
    before = unique;
    t.is(listOf(unique), list);
    t.is(await fuse.waiting(), 1);
    await server.close({ fd: device });
    t.is(await fuse.untilWaiting(0), 0, `request ${unique} does not wait any more`);
    t.is(await asking, 'ECONNABORTED', `request ${unique}`);
  }
});

/** One request of the first list and one of the last, read by `server` and not answered; the mount's own is dead then. */
async function inFirstAndLast(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  fuse: FuseMount,
): Promise<Asked> {
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  const device = await fuse.server.lendDevice(server);
  const asking: Promise<string>[] = [];
  const uniques: bigint[] = [];
  for (const list of [FIRST_LIST, LAST_LIST]) {
    const before = uniques.at(-1) ?? 0n;
    const asked = await askedOf({ list, before }, { fuse, client, server, device });
    asking.push(asked.asking);
    uniques.push(asked.unique);
  }
  await fuse.server.kill('SIGKILL');
  return { asking, uniques, server, device };
}

guestTest('requests of any number end when their connection is aborted (H3)', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await guest.mountFuse());
  const { asking, uniques } = await inFirstAndLast(guest, stack, fuse);
  t.deepEqual(uniques.map(listOf), [FIRST_LIST, LAST_LIST]);
  t.is(await fuse.waiting(), asking.length);
  await fuse.abort();
  t.is(await fuse.untilWaiting(0), 0, 'neither waits any more');
  for (const each of asking) t.is(await each, 'ECONNABORTED');
});

guestTest('requests of any number are sent anew (H11)', async (t, guest) => {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await guest.mountFuse());
  const { asking, uniques, server, device } = await inFirstAndLast(guest, stack, fuse);
  t.deepEqual(uniques.map(listOf), [FIRST_LIST, LAST_LIST]);
  t.is(await answerRequest(server, device, RESEND), 'ok');
  await answerAnew(t, { asking, uniques, server, device });
});
