import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What is kept of a directory lies in its page cache, which may be taken away, or filled anew, at any time. */

const LONG = 100_000;
/** So many that they take several answers, and more than a page where they are kept. */
const NAMES = Array.from({ length: 100 }, (_, nth) => `${'x'.repeat(60)}${100 + nth}`);

guestTest(
  'a list goes on where it stands though what was kept of its beginning has been taken away',
  async (t, guest) => {
    // With attributes an answer has fewer names, and they end in the middle of a page of names.
    const init = { dropFlags: ['READDIRPLUS_AUTO'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      init,
      entryValidS: LONG,
      attrValidS: LONG,
    });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of NAMES) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const names = await client.readdirFd({ fd, bytes: 1000 });
    t.deepEqual(await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'] }), ['READDIRPLUS'], 'one answer');
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
    for (let part = ['']; part.length > 0;) {
      part = await client.readdirFd({ fd, bytes: 1000 });
      names.push(...part);
    }
    t.deepEqual(names, ['.', '..', ...NAMES]);
    t.deepEqual(await client.readdirFd({ fd }), NAMES, 'from the beginning once more');
    t.deepEqual(await client.readdir({ path: fuse.file('d') }), NAMES, 'and by another open');
    await client.close({ fd });
  },
);

guestTest(
  'a list goes on in the names that are kept though the directory has changed, and in those that are kept anew',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of ['a', 'b', 'c']) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
    const list = async (): Promise<string[]> => client.readdir({ path: fuse.file('d') });
    t.deepEqual(await list(), ['a', 'b', 'c']);
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const part = async (bytes: number): Promise<readonly [string[], string[]]> => {
      const after = await fuse.position();
      const names = await client.readdirFd({ fd, bytes });
      return [names, await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after })];
    };
    // Room for the two dots, and then for one name at a time.
    t.deepEqual(await part(50), [['.', '..'], []], 'the beginning');
    await client.mkdir({ path: fuse.file('d/z') });
    t.deepEqual(await part(30), [['a'], []], 'after a change: of what was kept, and nobody is asked');
    t.deepEqual(await list(), ['a', 'b', 'c', 'z'], 'who begins asks for the names anew');
    t.deepEqual(await part(30), [['b'], []], 'of what is kept anew, and nobody is asked');
    t.deepEqual(await part(1000), [['c', 'z'], []], 'to its end');
    t.deepEqual(await part(1000), [[], []]);
    await client.close({ fd });
  },
);
