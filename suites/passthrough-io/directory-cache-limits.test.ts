import { bytes, concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Names of a directory that are kept in pages: as many as fill these, and none. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const PAGE = 4096;
const PLAIN = { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;
const REGULAR = 8;
/** `fuse_dirent`: inode number, offset of the next, length of the name, type; then the name, to a multiple of eight. */
const HEAD = 24;

function dirent(name: string, next: number): Uint8Array {
  const padding = new Uint8Array((8 - (name.length % 8)) % 8);
  const head = [u64(BigInt(1000 + next)), u64(BigInt(next)), u32(name.length), u32(REGULAR)];
  return concat(...head, bytes(name), padding);
}

/** A directory whose names are kept, and whose server says what a test has it say. */
async function kept(guest: TestGuest): Promise<FuseMount> {
  const fuse = await guest.mountFuse({
    passthrough: 'off',
    init: PLAIN,
    entryValidS: LONG,
    attrValidS: LONG,
  });
  await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
  return fuse;
}

/** Has READDIR answered with each of these in turn, and nothing then. */
async function answers(fuse: FuseMount, bodies: readonly Uint8Array[]): Promise<void> {
  // Later rules cover earlier ones.
  await fuse.rule({ match: { opcode: 'READDIR' }, action: { do: 'body', body: new Uint8Array() } });
  for (const body of [...bodies].reverse()) {
    await fuse.rule({ match: { opcode: 'READDIR' }, times: 1, action: { do: 'body', body } });
  }
}

guestTest('that a directory has no names, not even the dots, is kept like names are', async (t, guest) => {
  await using fuse = await kept(guest);
  await using client = await guest.client();
  await answers(fuse, []);
  for (const [time, asked] of [
    ['first', ['READDIR']],
    ['second', []],
    ['third', []],
  ] as const) {
    const after = await fuse.position();
    t.deepEqual(await client.readdir({ path: fuse.path }), [], `the ${time} list has no names`);
    t.deepEqual(await fuse.opcodes({ opcode: 'READDIR', after }), asked, `the ${time} list: who is asked`);
  }
});

/** So long that a whole number of entries fills a page. */
const NAME_LENGTH = 8;
const IN_A_PAGE = PAGE / (HEAD + NAME_LENGTH);

for (const pages of [1, 2]) {
  guestTest(
    `names that fill ${pages === 1 ? 'one page' : `${pages} pages`} to the last byte are kept whole`,
    async (t, guest) => {
      await using fuse = await kept(guest);
      await using client = await guest.client();
      const names = Array.from({ length: pages * IN_A_PAGE }, (_none, at) =>
        String(at).padStart(NAME_LENGTH, '0'),
      );
      const entries = names.map((name, at) => dirent(name, at + 1));
      const bodies = Array.from({ length: pages }, (_none, page) =>
        concat(...entries.slice(page * IN_A_PAGE, (page + 1) * IN_A_PAGE)),
      );
      t.true(
        bodies.every(({ length }) => length === PAGE),
        'each answer is a page',
      );
      await answers(fuse, bodies);
      t.deepEqual(await client.readdir({ path: fuse.path }), names, 'the first list, of the server');
      const after = await fuse.position();
      t.deepEqual(await client.readdir({ path: fuse.path }), names, 'the second list, of what is kept');
      const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
      const parts: string[] = [];
      for (let part = ['']; part.length > 0;) {
        part = await client.readdirFd({ fd, bytes: 1000 });
        parts.push(...part);
      }
      t.deepEqual(parts, names, 'what is kept, part by part');
      t.deepEqual(await fuse.opcodes({ opcode: 'READDIR', after }), [], 'nobody is asked');
      await client.close({ fd });
    },
  );
}
