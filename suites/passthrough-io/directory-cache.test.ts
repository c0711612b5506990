import { concat } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Names of a directory that the kernel keeps because the answer to OPENDIR lets it. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const { CACHE_DIR, KEEP_CACHE } = OpenFlag;

/** A directory of which the kernel believes everything, with `a` in it. */
async function directory(
  guest: TestGuest,
  client: Client,
  options: FuseOptions = {},
): Promise<{ fuse: FuseMount; list: () => Promise<{ names: string[]; asked: boolean }> }> {
  const fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG, ...options });
  await client.mkdir({ path: fuse.backing('d') });
  await client.writeFile({ path: fuse.backing('d/a'), data: '' });
  const list = async () => {
    const after = await fuse.position();
    const names = await client.readdir({ path: fuse.file('d') });
    const asked = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
    return { names, asked: asked.length > 0 };
  };
  return { fuse, list };
}

/** What OPENDIR is answered, and what a second list has when a file was made behind FUSE after the first. */
const ANSWERS: Readonly<Record<string, { readonly openFlags: number; readonly kept: boolean }>> = {
  'CACHE_DIR and KEEP_CACHE': { openFlags: CACHE_DIR | KEEP_CACHE, kept: true },
  CACHE_DIR: { openFlags: CACHE_DIR, kept: false },
  KEEP_CACHE: { openFlags: KEEP_CACHE, kept: false },
  nothing: { openFlags: 0, kept: false },
};

guestTest(
  'the names of a directory are kept from one open to the next where OPENDIR says CACHE_DIR and KEEP_CACHE',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { openFlags, kept }] of Object.entries(ANSWERS)) {
      const { fuse, list } = await directory(guest, client);
      await using _fuse = fuse;
      await fuse.answerOpen('OPENDIR', { openFlags });
      t.deepEqual(await list(), { names: ['a'], asked: true }, `${what}: the first list`);
      await client.writeFile({ path: fuse.backing('d/b'), data: '' });
      const names = kept ? ['a'] : ['a', 'b'];
      t.deepEqual(await list(), { names, asked: !kept }, `${what}: the second list`);
    }
  },
);

/** Changes of a directory through FUSE, each as the one before has left it, and the names after it. */
const CHANGES: Readonly<
  Record<string, readonly [(client: Client, fuse: FuseMount) => Promise<unknown>, string[]]>
> = {
  'open with O_CREAT': [
    async (client, fuse) =>
      client.close({ fd: await client.open({ path: fuse.file('d/b'), flags: 'O_RDWR|O_CREAT' }) }),
    ['a', 'b'],
  ],
  mkdir: [(client, fuse) => client.mkdir({ path: fuse.file('d/c') }), ['a', 'b', 'c']],
  rmdir: [(client, fuse) => client.rmdir({ path: fuse.file('d/c') }), ['a', 'b']],
  unlink: [(client, fuse) => client.unlink({ path: fuse.file('d/b') }), ['a']],
  'rename out of it': [(client, fuse) => client.rename({ from: fuse.file('d/a'), to: fuse.file('a') }), []],
  'rename into it': [(client, fuse) => client.rename({ from: fuse.file('a'), to: fuse.file('d/z') }), ['z']],
};

guestTest(
  'names that are kept are asked for again after the directory was changed through FUSE',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, list } = await directory(guest, client);
    await using _fuse = fuse;
    await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
    for (const [what, [change, names]] of Object.entries(CHANGES)) {
      await list();
      t.false((await list()).asked, `${what}: kept before`);
      await change(client, fuse);
      t.deepEqual(await list(), { names, asked: true }, what);
    }
  },
);

guestTest(
  'with AUTO_INVAL_DATA names that are kept are asked for again when the directory has another mtime',
  async (t, guest) => {
    await using client = await guest.client();
    const init = { addFlags: ['AUTO_INVAL_DATA'] } as const;
    for (const [attrValidS, another, asked] of [
      [0, 'a second later', true],
      [0, 'a millisecond later', true],
      [LONG, 'a second later', false],
    ] as const) {
      const { fuse, list } = await directory(guest, client, { init, attrValidS });
      await using _fuse = fuse;
      const changed = (mtimeNs: number): Promise<unknown> =>
        client.utimens({ path: fuse.backing('d'), atimeNs: null, mtimeNs });
      await changed(1e18);
      await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
      await list();
      t.false((await list()).asked, `attributes that count ${attrValidS} s: the same mtime`);
      await client.writeFile({ path: fuse.backing('d/b'), data: '' });
      await changed(1e18 + (another === 'a second later' ? 1e9 : 1e6));
      const names = asked ? ['a', 'b'] : ['a'];
      t.deepEqual(await list(), { names, asked }, `attributes that count ${attrValidS} s: ${another}`);
    }
  },
);

guestTest('a directory of several pages is kept whole, and read from any part', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, list } = await directory(guest, client);
  await using _fuse = fuse;
  await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
  const made = Array.from({ length: 200 }, (_none, index) => `a-rather-long-file-name-${1000 + index}`);
  for (const name of made) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
  const names = ['a', ...made];
  t.deepEqual(await list(), { names, asked: true }, 'the first list');
  t.deepEqual(await list(), { names, asked: false }, 'the second list');
  const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  const after = await fuse.position();
  const parts: string[] = [];
  for (let part = ['']; part.length > 0;) {
    part = await client.readdirFd({ fd, bytes: 1000 });
    parts.push(...part);
  }
  t.deepEqual(parts, ['.', '..', ...names], 'part by part');
  t.deepEqual(await client.readdirFd({ fd }), names, 'from the beginning once more');
  t.deepEqual(await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after }), [], 'all of it kept');
  await client.close({ fd });
});

guestTest('a directory that is read in part and out of order is kept whole, once it is', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, list } = await directory(guest, client);
  await using _fuse = fuse;
  await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const name of names) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
  const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  // The kernel keeps the entry for which there is no room as well, and will ask for it again.
  t.deepEqual(await client.readdirFd({ fd, bytes: 50 }), ['.', '..'], 'the beginning');
  // The server counts entries, the two dots among them.
  await client.lseek({ fd, offset: 6, whence: 'SEEK_SET' });
  t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), ['e', 'f'], 'the end');
  t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), [], 'nothing behind it');
  t.deepEqual(await list(), { names, asked: true }, 'a whole list');
  t.deepEqual(await list(), { names, asked: false }, 'and another');
  await client.close({ fd });
});

guestTest(
  'a server that answers OPENDIR with ENOSYS is asked once, gets no RELEASEDIR, and names are kept',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, list } = await directory(guest, client, { init: { addFlags: ['NO_OPENDIR_SUPPORT'] } });
    await using _fuse = fuse;
    await fuse.fail('OPENDIR', 'ENOSYS');
    t.deepEqual(await list(), { names: ['a'], asked: true }, 'the first list');
    t.deepEqual(await list(), { names: ['a'], asked: false }, 'the second list');
    await client.writeFile({ path: fuse.file('d/b'), data: '' });
    t.deepEqual(await list(), { names: ['a', 'b'], asked: true }, 'after a change');
    // Of a file, and sent after those of the lists would have been.
    await fuse.waitFor('RELEASE');
    t.deepEqual(await fuse.opcodes({ opcode: ['OPENDIR', 'RELEASEDIR'] }), ['OPENDIR']);
  },
);

/** More than a page of them. */
const NAMES = Array.from({ length: 100 }, (_, nth) => `${'x'.repeat(60)}${100 + nth}`);

guestTest(
  'names that were kept in part when the directory changed are asked for again once the list is whole',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, list } = await directory(guest, client);
    await using _fuse = fuse;
    await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
    for (const name of NAMES) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    const touch = async (mtimeNs: number): Promise<void> => {
      await client.utimens({ path: fuse.backing('d'), atimeNs: 1e9, mtimeNs });
      await client.stat({ path: fuse.file('d'), flags: 'AT_STATX_FORCE_SYNC' });
    };
    await touch(1e9);
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const after = await fuse.position();
    await client.readdirFd({ fd, bytes: 200 });
    const lists = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
    t.is(lists.length, 1, 'a part of it');
    await client.close({ fd });
    // As many names as before: what comes next has the place in the list that it had.
    for (const name of ['a', ...NAMES]) {
      await client.rename({ from: fuse.backing(`d/${name}`), to: fuse.backing(`d/y${name}`) });
    }
    await touch(2e9);
    const all = ['a', ...NAMES].map((name) => `y${name}`).sort();
    t.deepEqual(await list(), { names: all, asked: true }, 'the first whole list');
    t.deepEqual(await list(), { names: all, asked: true }, 'the part is of another time');
    t.deepEqual(await list(), { names: all, asked: false }, 'once more');
  },
);

guestTest(
  'names that are kept are given up when they are not wanted, and asked for again',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, list } = await directory(guest, client);
    await using _fuse = fuse;
    await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
    for (const name of NAMES) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    const all = ['a', ...NAMES];
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    for (const time of ['first', 'second']) {
      t.deepEqual(await list(), { names: all, asked: true }, `${time}: asked for`);
      t.deepEqual(await list(), { names: all, asked: false }, `${time}: kept`);
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
    }
    await client.close({ fd });
  },
);

guestTest(
  'names that are kept are told from where was sought to, and what comes behind them is asked for and not kept',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, list } = await directory(guest, client);
    await using _fuse = fuse;
    await fuse.answerOpen('OPENDIR', { openFlags: CACHE_DIR | KEEP_CACHE });
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    t.deepEqual(await list(), { names, asked: true }, 'a whole list');
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const after = await fuse.position();
    const from = async (offset: number, bytes = 4096): Promise<string[]> => {
      await client.lseek({ fd, offset, whence: 'SEEK_SET' });
      return client.readdirFd({ fd, bytes });
    };
    // The server counts entries, the two dots among them.
    t.deepEqual(await from(4), ['c', 'd']);
    t.deepEqual(await from(1), ['..', ...names], 'and back');
    t.deepEqual(await from(5), ['d']);
    // Where it stands then is not the end, or the kernel would know that there is no more.
    t.deepEqual(await from(2, 30), ['a']);
    const asked = { opcode: ['READDIR', 'READDIRPLUS'], after } as const;
    t.deepEqual(await fuse.opcodes(asked), [], 'nobody is asked');

    const late = concat(u64(99n), u64(7n), u32(1), u32(8), Uint8Array.of(122), new Uint8Array(7));
    const entry = (opcode: 'READDIR' | 'READDIRPLUS') =>
      opcode === 'READDIR' ? late : concat(new Uint8Array(128), late);
    for (const opcode of ['READDIR', 'READDIRPLUS'] as const) {
      await fuse.rule({ match: { opcode }, times: 1, action: { do: 'body', body: entry(opcode) } });
    }
    t.deepEqual(await from(6), ['z'], 'what the server has behind the last of them');
    t.deepEqual(
      (await fuse.requests(asked)).map(({ args }) => args['offset']),
      [6],
    );
    t.deepEqual(await list(), { names, asked: false }, 'the next list');
    await client.close({ fd });
  },
);
