import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsLastingIds, needsMappings, needsSingleUseIds, openWithId } from '../lib/registration.ts';
import { Witness } from '../lib/witness.ts';

/** What one may let go of, in some order. `id` is BACKING_CLOSE. */
type Holder = 'id' | 'first' | 'second' | 'mapping';

/** Every order that differs: the id among the opens, and a mapping of the second among them. */
const ORDERS: readonly (readonly Holder[])[] = [
  ['id', 'first', 'second'],
  ['first', 'id', 'second'],
  ['first', 'second', 'id'],
  ['second', 'first', 'id'],
  ['mapping', 'second', 'id', 'first'],
  ['second', 'id', 'mapping', 'first'],
  ['second', 'first', 'id', 'mapping'],
  ['id', 'second', 'first', 'mapping'],
];

const PAGE = 4096;
const SHARED = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

/** Which files of the lower server go when: by whose open it was. */
interface Held {
  readonly witness: Witness;
  readonly letGo: Readonly<Record<Holder, () => Promise<unknown>>>;
  readonly handles: Readonly<Record<'registered' | 'first' | 'second', number>>;
}

async function holdAll(guest: TestGuest, client: Client, witness: Witness, mapped: boolean): Promise<Held> {
  await client.writeFile({ path: witness.upper.backing('f'), data: 'backing' });
  const { upper, lower } = witness;
  const after = await lower.position();
  const id = await upper.server.registerBacking({ path: lower.file('f'), flags: 'O_RDWR' });
  const first = await openWithId(guest, client, { fuse: upper, id });
  const second = await openWithId(guest, client, { fuse: upper, id });
  const map = mapped ? await client.mmap({ fd: second, ...SHARED }) : 0;
  const opens = await lower.requests({ opcode: 'OPEN', after });
  const [registered = -1, one = -1, other = -1] = opens.map(({ reply }) => reply?.open?.fh ?? -1);
  return {
    witness,
    handles: { registered, first: one, second: other },
    letGo: {
      id: () => upper.server.closeBacking(id),
      first: () => client.close({ fd: first }),
      second: () => client.close({ fd: second }),
      mapping: () => client.munmap({ map }),
    },
  };
}

/** What must be closed below once these have gone. */
function goneAfter(gone: ReadonlySet<Holder>, mapped: boolean): (keyof Held['handles'])[] {
  const closed: (keyof Held['handles'])[] = [];
  // The mapping has the file of its open, and nothing of the registration.
  if (gone.has('id') && gone.has('first') && gone.has('second')) closed.push('registered');
  if (gone.has('first')) closed.push('first');
  if (gone.has('second') && (!mapped || gone.has('mapping'))) closed.push('second');
  return closed;
}

for (const mapped of [false, true]) {
  const what = mapped ? 'an id, two opens and a mapping' : 'an id and two opens';
  guestTest(`${what} end in any order, each with its own file below (C2, C3, C4, C6)`, async (t, guest) => {
    needsLastingIds(guest);
    if (mapped) needsMappings(guest);
    // A mapping needs a page cache below.
    await using witness = await Witness.mount(guest, { io: mapped ? 'cached' : 'direct' });
    await witness.upper.configure({ passthrough: 'off' });
    await using client = await guest.client();
    for (const order of ORDERS.filter((one) => one.includes('mapping') === mapped)) {
      const start = await witness.lower.position();
      const { handles, letGo } = await holdAll(guest, client, witness, mapped);
      const gone = new Set<Holder>();
      for (const holder of order) {
        await letGo[holder]();
        gone.add(holder);
        const expected = goneAfter(gone, mapped);
        const released = await releasedBelow(witness, start, expected.length);
        const names = (Object.keys(handles) as (keyof typeof handles)[]).filter((name) => {
          return released.includes(handles[name]);
        });
        t.deepEqual(names, expected, `${order.join(', ')}: after ${holder}`);
      }
      const all = await witness.lower.requests({ opcode: 'RELEASE', after: start });
      t.is(all.length, 3, `${order.join(', ')}: each once`);
    }
    t.deepEqual(await witness.upper.dataRequests(), []);
  });
}

/** Handles that have been released since; waits for so many, as RELEASE comes after close. */
async function releasedBelow({ lower }: Witness, start: number, count: number): Promise<number[]> {
  for (let seen = 0, after = start; seen < count; seen++) {
    after = (await lower.waitFor({ opcode: 'RELEASE', after })).seq;
  }
  const releases = await lower.requests({ opcode: 'RELEASE', after: start });
  return releases.map(({ args }) => Number(args['fh']));
}

guestTest(
  'a registered file is closed below with the last close of its open, once (C1, C3)',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using witness = await Witness.mount(guest);
    await witness.upper.configure({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: 'backing' });
    const id = await witness.upper.server.registerBacking({ path: witness.lower.file('f'), flags: 'O_RDWR' });
    const fd = await openWithId(guest, client, { fuse: witness.upper, id });
    const copy = await client.dup({ fd });
    await client.close({ fd });
    await client.pread({ fd: copy, count: 7, offset: 0 });
    t.deepEqual(await witness.lower.requests('RELEASE'), [], 'a duplicate is open');
    await client.close({ fd: copy });
    await witness.lower.waitFor('RELEASE');
    t.is((await witness.lower.requests('RELEASE')).length, 1);
  },
);

guestTest(
  'the kernel closes backing files without a FLUSH, and the server its own with one (C17)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest);
    await using client = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: 'backing' });
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'x', offset: 0 });
    await client.close({ fd });
    await witness.upper.waitFor('RELEASE');
    const flushes = (await witness.lower.requests('FLUSH')).map(({ pid }) => pid);
    t.deepEqual(flushes, [witness.upper.server.pid], 'of the descriptor that was registered');
  },
);

guestTest(
  'a client killed in the middle of a read below leaves its backing file closed (C18, F1)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest);
    await using client = await guest.client();
    await using victim = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: 'backing' });
    const fd = await victim.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    const hold = await witness.lower.hold('READ');
    const reading = victim.errno.pread({ fd, count: 7, offset: 0 }).catch(() => 'ended');
    const read = await hold.arrived();
    await hold.stop();
    const death = victim.kill();
    // The interrupt goes to whom the thread waits for: the lower server.
    await witness.lower.waitFor({ opcode: 'INTERRUPT', after: read.seq }, 'arrived');
    t.deepEqual(await witness.upper.requests('INTERRUPT'), []);
    await hold.release(read, { do: 'error', errno: 'EINTR' });
    t.is((await death)?.signal, 'SIGKILL');
    t.is(await reading, 'ended');
    await witness.upper.waitFor('RELEASE');
    const [open] = await witness.backingOpens();
    const released = await releasedBelow(witness, 0, guest.expected.reopensBackingFile ? 2 : 1);
    t.true(released.includes(open?.reply?.open?.fh ?? -1));
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

/** Whether requests below are waited for, or sent and answered some time. */
const LOWER = {
  'done at once': {},
  'under way below': { addFlags: ['ASYNC_DIO'] },
} as const;

guestTest(
  'asynchronous I/O leaves its backing file open until the close, and not longer (A25, C3)',
  async (t, guest) => {
    for (const [what, lowerInit] of Object.entries(LOWER)) {
      await using witness = await Witness.mount(guest, { lowerInit });
      await using client = await guest.client();
      await client.writeFile({ path: witness.upper.backing('f'), data: pattern(2 * PAGE) });
      const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR|O_DIRECT' });
      for (const operation of [
        { op: 'pwrite', fd, data: pattern(PAGE, 3), offset: PAGE },
        { op: 'pread', fd, count: PAGE, offset: PAGE },
      ] as const) {
        const [done] = await client.aio({ operations: [operation] });
        t.is(done?.result, PAGE, `${what}: ${operation.op}`);
        // A request that is sent now comes after a RELEASE.
        await client.statfs({ path: witness.lower.path });
        t.deepEqual(await witness.sent('RELEASE'), [], `${what}: open after ${operation.op}`);
      }
      await client.close({ fd });
      const released = await eventually(
        () => witness.sent('RELEASE'),
        ({ length }) => length > 0,
      );
      t.is(released.length, 1, `${what}: closed after close`);
      t.deepEqual(await witness.upper.dataRequests(), []);
    }
  },
);
