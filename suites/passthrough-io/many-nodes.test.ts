import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Longer than any test. Seconds. */
const LONG = 100_000;
/**
 * The kernel finds inodes by a hash of their numbers. Of so many some share one of its 65 536 lists: seven pairs are
 * to be expected.
 */
const FILES = 1000;

guestTest('of many files that are in memory at once each is itself', async (t, guest) => {
  // The list of the directory brings them all into memory, without a request for each.
  const init = { dropFlags: ['READDIRPLUS_AUTO'] } as const;
  await using fuse = await guest.mountFuse({
    passthrough: 'off',
    entryValidS: LONG,
    attrValidS: LONG,
    init,
  });
  const inodes = async (directory: string): Promise<string[]> => {
    const script = 'cd "$0" && stat -c "%n %i" -- *';
    const { stdout } = await guest.run(['sh', '-c', script, directory]);
    return stdout.trim().split('\n');
  };
  await guest.run(['sh', '-c', `cd "$0" && seq ${FILES} | xargs touch`, fuse.root]);
  const expected = await inodes(fuse.root);
  t.is(expected.length, FILES);
  t.deepEqual(await inodes(fuse.path), expected);
  t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP' }), [], 'the list has told all');
});

guestTest('inodes of FUSE and of overlays count as memory that can be had back', async (t, guest) => {
  await using client = await guest.client();
  const isReclaimable = async (cache: string): Promise<boolean> => {
    const path = `/sys/kernel/slab/${cache}/reclaim_account`;
    if ((await client.errno.stat({ path })) !== 'ok') guest.skip(`this kernel does not tell of ${cache}`);
    return text(await client.readFile({ path })).trim() === '1';
  };
  // proc_meminfo(5): SReclaimable, by which the kernel and who asks it reckon what memory there is.
  t.false(await isReclaimable('filp'), 'open files, which nobody can take back');
  for (const cache of ['fuse_inode', 'ovl_inode']) t.true(await isReclaimable(cache), cache);
});
