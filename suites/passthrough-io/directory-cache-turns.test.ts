import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag, type RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/**
 * A directory that changes while several read it, and what is kept of it is in use: by a reader whose memory is long
 * in coming. The others wait for that page, and then have to see that it is of another time.
 */

const PAGE = 4096;
const LONG = 100_000;
/** Where a task stands that waits for a page which another one has locked. */
const WAITS_FOR_PAGE = /folio_wait_bit|__folio_lock|wait_on_page_bit/u;

interface Bench {
  readonly fuse: FuseMount;
  readonly other: Client;
  /** Lists the directory: the names, and whether the server was asked for them. */
  readonly list: () => Promise<{ names: string[]; asked: boolean }>;
  /** Gives all files other names behind FUSE, and lets the kernel know that the directory has changed. */
  readonly change: (generation: string) => Promise<void>;
  /** Has the names that are kept read into memory that does not come; gives how to let it come. */
  readonly useKept: () => Promise<() => Promise<void>>;
  /** Lists the directory by a process of its own, until it waits for the page. */
  readonly listWaiting: () => Promise<{ listing: Promise<string[]> }>;
}

function namesOf(generation: string): string[] {
  return ['1', '2', '3', '4'].map((nth) => `${generation}-${nth}`);
}

async function bench(guest: TestGuest, stack: AsyncDisposableStack): Promise<Bench> {
  const fuse = stack.use(await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG }));
  const [other, user] = [stack.use(await guest.client()), stack.use(await guest.client())];
  await other.mkdir({ path: fuse.backing('d') });
  for (const name of namesOf('first')) await other.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
  await other.writeFile({ path: fuse.backing('memory'), data: new Uint8Array(PAGE) });
  await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
  const path = fuse.file('d');
  let generation = 'first';
  let mtimeNs = 1e18;
  const listWaiting: Bench['listWaiting'] = async () => {
    const reader = stack.use(await guest.client());
    const listing = reader.readdir({ path });
    listing.catch(() => undefined);
    await eventually(
      () => guest.where(reader.pid),
      (where) => WAITS_FOR_PAGE.test(where),
    );
    return { listing };
  };
  return {
    fuse,
    other,
    list: async () => {
      const after = await fuse.position();
      const names = await other.readdir({ path });
      const asked = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
      return { names, asked: asked.length > 0 };
    },
    change: async (next) => {
      for (const [nth, from] of namesOf(generation).entries()) {
        const to = namesOf(next)[nth] ?? '';
        await other.rename({ from: fuse.backing(`d/${from}`), to: fuse.backing(`d/${to}`) });
      }
      generation = next;
      mtimeNs += 1e9;
      await other.utimens({ path: fuse.backing('d'), atimeNs: 1e9, mtimeNs });
      await other.stat({ path, flags: 'AT_STATX_FORCE_SYNC' });
    },
    useKept: async () => {
      const memory = await user.open({ path: fuse.file('memory'), flags: 'O_RDWR' });
      const map = await user.mmap({
        fd: memory,
        length: PAGE,
        prot: 'PROT_READ|PROT_WRITE',
        flags: 'MAP_SHARED',
      });
      const fd = await user.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      const hold = await fuse.hold({ opcode: 'READ', path: '/memory' });
      const reading = user.readdirInto({ fd, map, offset: 0, length: PAGE });
      reading.catch(() => undefined);
      const request: RequestRecord = await hold.arrived();
      return async () => {
        await hold.stop();
        await hold.release(request);
        await reading;
      };
    },
    listWaiting,
  };
}

guestTest(
  'a list that waited for names which were given up meanwhile has those of the directory as it is then',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { fuse, other, list, change, useKept, listWaiting } = await bench(guest, stack);
    await list();
    t.deepEqual(await list(), { names: namesOf('first'), asked: false }, 'they are kept');
    const goOn = await useKept();
    const early = await listWaiting();
    await change('second');
    // This one finds out, and the names that are kept are void from then on.
    const late = await listWaiting();
    await goOn();
    t.deepEqual(await early.listing, namesOf('second'), 'who waited since before the change');
    t.deepEqual(await late.listing, namesOf('second'), 'who came after it');
    t.deepEqual((await list()).names, namesOf('second'));
    t.deepEqual(await list(), { names: namesOf('second'), asked: false }, 'and these are kept');
    const fd = await other.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    await other.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
    await other.close({ fd });
    t.deepEqual(await list(), { names: namesOf('second'), asked: true }, 'until they are not wanted');
  },
);

guestTest('of lists that are made side by side the names are kept once', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  const { list, change, useKept, listWaiting } = await bench(guest, stack);
  await list();
  t.false((await list()).asked, 'names are kept, and in use');
  const goOn = await useKept();
  await change('second');
  const lists = [await listWaiting(), await listWaiting(), await listWaiting()];
  await goOn();
  for (const { listing } of lists) t.deepEqual(await listing, namesOf('second'));
  t.deepEqual((await list()).names, namesOf('second'), 'the next list');
  t.deepEqual(await list(), { names: namesOf('second'), asked: false }, 'and another, of what is kept');
});
