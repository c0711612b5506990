import { pattern } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { backingMap, DeviceIoctl, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { inOrder, onOpen, ROUNDS } from '../lib/leaks.ts';
import { makeAll } from '../lib/make-all.ts';
import { countObjects, grown, MARGIN, staysGrown } from '../lib/object-counts.ts';
import { needsLastingIds } from '../lib/registration.ts';

/** Objects of the kernel as it counts them: what is done often must not leave as many. */

/** Bytes; a registration and most of what an open has is in one of these. */
const SIZES = [32, 64, 96, 128, 192, 256] as const;
/** cred_jar, since 6.17 cred: credentials; filp: open files, those without a descriptor as well. */
const CACHES = [
  'cred_jar',
  'cred',
  'filp',
  'backing_aio',
  ...SIZES.flatMap((size) => [`kmalloc-${size}`, `kmalloc-cg-${size}`]),
];

/** What a table of ids is made of. The page cache is as well, so it counts only where thousands of ids are given. */
const TABLES = ['radix_tree_node'];

interface Bench {
  readonly guest: TestGuest;
  readonly fuse: FuseMount;
  readonly client: Client;
}

/** `calls` on a descriptor of their own, so often. */
async function onOpens(
  { client, fuse }: Bench,
  times: number,
  calls: (fd: object) => readonly BatchCall[],
): Promise<void> {
  const each = onOpen({ path: fuse.file('f'), flags: 'O_RDWR' }, calls);
  await makeAll(client, inOrder(Array.from({ length: times }, () => each)));
}

const data = { make: { length: 100, seed: 1 } };

/** What is done, each so often. */
const ROUNDS_OF: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  'opens in passthrough mode, with I/O': (bench) =>
    onOpens(bench, ROUNDS, (fd) => [
      { call: 'pwrite', args: { fd, data, offset: 0 } },
      { call: 'pread', args: { fd, count: 100, offset: 0 } },
    ]),
  'asynchronous reads and writes': (bench) =>
    onOpens(bench, 1, (fd) => {
      const operations = [
        { op: 'pread', fd, count: 100, offset: 0 },
        { op: 'pwrite', fd, data, offset: 0 },
      ];
      return Array.from({ length: ROUNDS }, () => ({ call: 'aio', args: { operations } }));
    }),
  'opens that the answer makes fail': async ({ guest, client, fuse }) => {
    await fuse.configure({ passthrough: 'off' });
    const openFlags = guest.expected.passthroughFlag | OpenFlag.KEEP_CACHE;
    const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
    await fuse.answerOpen('OPEN', { openFlags, backingId: id });
    const open = { call: 'open', args: { path: fuse.file('f'), flags: 'O_RDWR' } } as const;
    const calls = Array.from({ length: ROUNDS }, () => open);
    const results = await client.batch({ calls, oneThread: true });
    if (results.some((result) => !('errno' in result))) throw new Error('an open worked');
    await fuse.server.closeBacking(id);
  },
};

for (const [what, work] of Object.entries(ROUNDS_OF)) {
  guestTest(`${ROUNDS} ${what} leave no objects in the kernel (C19)`, async (t, guest) => {
    if (what.startsWith('opens that')) needsLastingIds(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client({ callMs: 60_000 });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4096) });
    const bench = { guest, fuse, client };
    await onOpens(bench, 1, () => []);
    const before = await countObjects(guest, CACHES);
    await work(bench);
    t.deepEqual(await staysGrown(guest, before, CACHES), []);
  });
}

guestTest(
  `${ROUNDS} reads with io_uring on tmpfs leave no objects in the kernel (A26, C19)`,
  async (t, guest) => {
    // Its files promise nothing about waiting: every request is tried, refused and made anew.
    await using fuse = await guest.mountFuse({ root: 'tmpfs' });
    await using client = await guest.client({ callMs: 60_000 });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4096) });
    const bench = { guest, fuse, client };
    const reads = (fd: object, times: number): BatchCall[] => {
      const operations = [{ op: 'pread', fd, count: 100, offset: 0 }];
      return Array.from({ length: times }, () => ({ call: 'uringChain', args: { operations } }));
    };
    await onOpens(bench, 1, (fd) => reads(fd, 1));
    const before = await countObjects(guest, CACHES);
    await onOpens(bench, 1, (fd) => reads(fd, ROUNDS));
    t.deepEqual(await staysGrown(guest, before, CACHES), []);
  },
);

guestTest(`${ROUNDS} registrations leave no objects in the kernel (C12)`, async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const device = await fuse.server.lendDevice(client);
  const file = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const register = ioctl(device, DeviceIoctl.BACKING_OPEN, backingMap(file));
  const before = await countObjects(guest, CACHES);
  const ids = Array.from({ length: ROUNDS }, (_, round) => round + 1);
  const results = await makeAll(
    client,
    ids.flatMap((id) => [register, ioctl(device, DeviceIoctl.BACKING_CLOSE, u32(id))]),
  );
  t.deepEqual(
    results.map((result) => (result as { value: { ret: number } }).value.ret),
    ids.flatMap((id) => [id, 0]),
  );
  t.deepEqual(await staysGrown(guest, before, CACHES), []);
});

function ioctl(device: number, request: number, arg: Uint8Array): BatchCall {
  return { call: 'ioctl', args: { fd: device, request, arg } };
}

const IDS = 16_000;
/** Fewer than the nodes of the table, of which each has room for 64 ids. Other work of the machine comes and goes. */
const MARGIN_NODES = (IDS / 64) * 0.8;
const IDS_A_CALL = 1000;

guestTest(`${IDS} registrations leave no objects when their connection ends`, async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client({ callMs: 60_000 });
  const path = fuse.backing('f');
  await client.writeFile({ path, data: 'backing' });
  const caches = [...CACHES, ...TABLES];
  const before = await countObjects(guest, caches);

  const device = await fuse.server.lendDevice(client);
  const file = await client.open({ path, flags: 'O_RDWR' });
  const register = ioctl(device, DeviceIoctl.BACKING_OPEN, backingMap(file));
  for (let given = 0; given < IDS; given += IDS_A_CALL) {
    const results = await makeAll(client, Array<BatchCall>(IDS_A_CALL).fill(register));
    t.like(results.at(-1), { value: { ret: given + IDS_A_CALL } });
  }
  t.true(
    grown(before, await countObjects(guest, caches)).length > 0,
    'while they are registered they are counted',
  );
  for (const fd of [file, device]) await client.close({ fd });
  t.is(await fuse.unmount(), 'ok');
  await fuse.server.closeDevice(0);
  t.deepEqual(await staysGrown(guest, before, caches, MARGIN_NODES), []);
});

/** Where credentials are counted, together with what has their size if the kernel has merged that. */
const CREDENTIALS = ['cred_jar', 'cred', 'filp'];

guestTest(
  `registrations by ${ROUNDS} users leave no credentials when their connection ends (C12, F1)`,
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const path = fuse.backing('f');
    await client.writeFile({ path, data: 'backing' });
    const device = await fuse.server.lendDevice(client);
    const file = await client.open({ path, flags: 'O_RDWR' });
    const before = await countObjects(guest, CREDENTIALS);
    for (let round = 0; round < ROUNDS; round++) {
      // Privileged all the time, and somebody else each: a registration may just refer to what its maker has.
      await client.setCredentials({ uid: [1000 + round, 0, 0], gid: 0 });
      await client.ioctl({ fd: device, request: DeviceIoctl.BACKING_OPEN, arg: backingMap(file) });
    }
    const made = await countObjects(guest, CREDENTIALS);
    // Threads of the client keep credentials of their own: not all are to go.
    const half = Object.entries(before).flatMap(([name, then]) => {
      const more = (made[name] ?? 0) - then;
      return more > MARGIN ? [[name, then + more / 2] as const] : [];
    });
    t.true(half.length > 0, 'while they are registered they are counted');
    for (const fd of [file, device]) await client.close({ fd });
    t.is(await fuse.unmount(), 'ok');
    await fuse.server.closeDevice(0);
    t.deepEqual(await staysGrown(guest, Object.fromEntries(half), CREDENTIALS, 0), []);
  },
);
