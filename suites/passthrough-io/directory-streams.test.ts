import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Names of a directory that are kept, while opens of it differ in what they may use, or are of another time. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;
const { CACHE_DIR, KEEP_CACHE } = OpenFlag;
const KEPT = { openFlags: CACHE_DIR | KEEP_CACHE } as const;

/** The names of `d`, and whether the server was asked for them. */
async function list(fuse: FuseMount, client: Client): Promise<{ names: string[]; asked: boolean }> {
  const after = await fuse.position();
  const names = await client.readdir({ path: fuse.file('d') });
  const asked = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
  return { names, asked: asked.length > 0 };
}

guestTest(
  'names that are kept are given up by an open that is not told to keep them, though it uses none itself',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await client.writeFile({ path: fuse.backing('d/a'), data: '' });
    for (const [between, openFlags, asked] of [
      ['KEEP_CACHE', KEEP_CACHE, false],
      ['nothing', 0, true],
    ] as const) {
      await fuse.answerOpen('OPENDIR', KEPT);
      await list(fuse, client);
      t.false((await list(fuse, client)).asked, `before ${between}: kept`);
      await fuse.answerOpen('OPENDIR', { openFlags }, 1);
      await client.close({ fd: await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' }) });
      t.is((await list(fuse, client)).asked, asked, `after an open that is answered ${between}`);
    }
  },
);

/** Four names. Entries of a later generation are longer: where one begins is in the middle of one from before. */
function namesOf(generation: number): string[] {
  return ['1', '2', '3', '4'].map((first) => `${first}${'-longer'.repeat(3 * generation)}`);
}

/** Room for one of these entries, not two; and for one of the first generation. Bytes. */
const [ROOM, LITTLE_ROOM] = [80, 40];

guestTest(
  'who reads kept names in parts goes on in those that are kept by then, where it stood',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of namesOf(0)) await client.writeFile({ path: fuse.backing(`d/${name}`), data: '' });
    await fuse.answerOpen('OPENDIR', KEPT);
    await list(fuse, client);
    const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    for (const first of ['.', '..', '1']) {
      t.deepEqual(await client.readdirFd({ fd, bytes: LITTLE_ROOM }), [first], 'one at a time');
    }
    for (const generation of [1, 2]) {
      const names = namesOf(generation);
      // As many as before, in the same order: each has the place that it had.
      for (const [at, name] of namesOf(generation - 1).entries()) {
        await client.rename({ from: fuse.backing(`d/${name}`), to: fuse.backing(`d/${names[at] ?? ''}`) });
      }
      await client.utimens({ path: fuse.backing('d'), atimeNs: 1e9, mtimeNs: generation * 1e9 });
      await client.stat({ path: fuse.file('d'), flags: 'AT_STATX_FORCE_SYNC' });
      const what = `change ${generation}`;
      t.deepEqual(await list(fuse, client), { names, asked: true }, `${what}: a whole list`);
      t.false((await list(fuse, client)).asked, `${what}: it is kept`);
      const after = await fuse.position();
      const part = await client.readdirFd({ fd, bytes: ROOM });
      t.deepEqual(part, [names[generation]], `${what}: the next name, of those that there are now`);
      const asked = { opcode: ['READDIR', 'READDIRPLUS'], after } as const;
      t.deepEqual(await fuse.opcodes(asked), [], `${what}: of those that are kept`);
    }
    t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), namesOf(2).slice(3), 'the rest');
    await client.close({ fd });
  },
);

/** inode(7) and, of the same, getdents64(2). */
const KINDS = { fifo: [0o010_600, 1], socket: [0o140_600, 12], file: [0o100_600, 8] } as const;
const [DT_DIR, DT_LNK] = [4, 10];

guestTest('names that are kept have the type and the number that the server has listed', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  for (const [name, [mode]] of Object.entries(KINDS)) {
    await client.mknod({ path: fuse.backing(`d/${name}`), mode });
  }
  await client.mkdir({ path: fuse.backing('d/directory') });
  await client.symlink({ target: 'file', path: fuse.backing('d/link') });
  await fuse.answerOpen('OPENDIR', KEPT);
  const types = Object.fromEntries(Object.entries(KINDS).map(([name, [, type]]) => [name, type]));
  const expected = { ...types, directory: DT_DIR, link: DT_LNK };
  for (const time of ['asked for', 'kept']) {
    const after = await fuse.position();
    const tree = await client.tree({ path: fuse.file('d') });
    const opcode = ['READDIR', 'READDIRPLUS'] as const;
    const asked = await fuse.requests({ opcode, path: '/d', after });
    t.is(asked.length > 0, time === 'asked for', time);
    const listed = tree.filter(({ entry }) => entry !== null);
    t.deepEqual(Object.fromEntries(listed.map(({ path, entry }) => [path, entry?.type])), expected, time);
    for (const { path, entry, ino } of listed) t.is(entry?.ino, ino, `${time}: the number of the ${path}`);
    t.is(tree[0]?.dot, tree[0]?.ino, `${time}: the number of the directory`);
  }
});

guestTest(
  'with AUTO_INVAL_DATA the directory is asked about without a handle, and only when what was kept does not count',
  async (t, guest) => {
    for (const [attrValidS, asks] of [
      [0, ['GETATTR']],
      [LONG, []],
    ] as const) {
      await using fuse = await guest.mountFuse({
        ...BELIEVED,
        attrValidS,
        init: { addFlags: ['AUTO_INVAL_DATA'] },
      });
      await using client = await guest.client();
      const what = `attributes that count ${attrValidS} s`;
      await client.mkdir({ path: fuse.backing('d') });
      await client.writeFile({ path: fuse.backing('d/a'), data: '' });
      // The server numbers its handles: that of the directory is not 0.
      const other = await client.open({ path: fuse.file('d/a'), flags: 'O_RDONLY' });
      await fuse.answerOpen('OPENDIR', KEPT);
      await list(fuse, client);
      const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
      const after = await fuse.position();
      // The time of access is outdated since the first list.
      t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), ['.', '..', 'a'], what);
      const sent = await fuse.requests({ opcode: ['GETATTR', 'READDIR', 'READDIRPLUS'], after });
      t.deepEqual(
        sent.map(({ opcode }) => opcode),
        [...asks],
        `${what}: before kept names are told`,
      );
      for (const { args } of sent) t.like(args, { getattr_flags: 0, fh: 0 }, `${what}: of the directory`);
      for (const each of [fd, other]) await client.close({ fd: each });
    }
  },
);

guestTest('names that are kept are told without the access time being outdated by it', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  await client.writeFile({ path: fuse.backing('d/a'), data: '' });
  await fuse.answerOpen('OPENDIR', KEPT);
  for (const [time, asked, asks] of [
    ['asked for', true, ['GETATTR']],
    ['kept', false, []],
  ] as const) {
    t.deepEqual(await list(fuse, client), { names: ['a'], asked }, time);
    const after = await fuse.position();
    await client.stat({ path: fuse.file('d') });
    t.deepEqual(
      await fuse.opcodes({ opcode: 'GETATTR', after }),
      [...asks],
      `a stat after names were ${time}`,
    );
  }
});
