import { concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** What a server says of a directory that has changed by the time at which it is heard. */

const LONG = 100_000;
/** `old`, as a READDIR has it (`fuse_dirent`). What comes next is the third: `.` and `..` are left out. */
const OLD = concat(u64(99n), u64(3n), u32(3), u32(8), Uint8Array.from(Buffer.from('old')), new Uint8Array(5));

interface Bench {
  /** Lists the directory: the names, and whether the server was asked for them. */
  readonly list: () => Promise<{ names: string[]; asked: boolean }>;
  /** Begins a list by a process of its own, and comes back when the server has been asked. */
  readonly begin: () => Promise<{ finish: (body?: Uint8Array) => Promise<string[]> }>;
  /** Gives the file another name behind FUSE, and lets the kernel know that the directory has changed. */
  readonly change: () => Promise<void>;
  /** No further list is to be kept waiting. */
  readonly stop: () => Promise<void>;
}

async function bench(guest: TestGuest, stack: AsyncDisposableStack): Promise<Bench> {
  const init = { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;
  const fuse = stack.use(
    await guest.mountFuse({ passthrough: 'off', init, entryValidS: LONG, attrValidS: LONG }),
  );
  const other = stack.use(await guest.client());
  await other.mkdir({ path: fuse.backing('d') });
  await other.writeFile({ path: fuse.backing('d/old'), data: '' });
  await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
  const path = fuse.file('d');
  await other.stat({ path });
  const hold = await fuse.hold('READDIR');
  return {
    list: async () => {
      const after = await fuse.position();
      const names = await other.readdir({ path });
      return { names, asked: (await fuse.opcodes({ opcode: 'READDIR', after })).length > 0 };
    },
    begin: async () => {
      const reader = stack.use(await guest.client());
      const listing = reader.readdir({ path });
      listing.catch(() => undefined);
      const request = await hold.arrived();
      return {
        finish: async (body) => {
          await hold.release(request, body === undefined ? undefined : { do: 'body', body });
          return listing;
        },
      };
    },
    change: async () => {
      await other.rename({ from: fuse.backing('d/old'), to: fuse.backing('d/new') });
      await other.utimens({ path: fuse.backing('d'), atimeNs: 1e9, mtimeNs: 2e18 });
      await other.stat({ path, flags: 'AT_STATX_FORCE_SYNC' });
    },
    stop: () => hold.stop(),
  };
}

guestTest(
  'names that come when the directory is known to have changed since they were asked for are not kept',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { list, begin, change, stop } = await bench(guest, stack);
    const early = await begin();
    await change();
    await stop();
    t.deepEqual(await early.finish(OLD), ['old'], 'who asked before the change');
    t.deepEqual(await list(), { names: ['new'], asked: true }, 'who asks after it');
    t.deepEqual(await list(), { names: ['new'], asked: false }, 'and these are kept');
  },
);

guestTest(
  'names that come when the directory is known to have changed are not kept, though somebody else has begun a list meanwhile',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { list, begin, change, stop } = await bench(guest, stack);
    const early = await begin();
    await change();
    const late = await begin();
    await stop();
    t.deepEqual(await early.finish(OLD), ['old'], 'who asked before the change');
    t.deepEqual(await late.finish(), ['new'], 'who asked after it');
    for (const nth of ['the next list', 'the one after it']) {
      const { names } = await list();
      t.deepEqual(names, ['new'], nth);
    }
  },
);
