import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { FATTR_FH } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';
import { writesAndSyncs } from '../lib/writes-and-syncs.ts';

/** What an overlay asks of a plain FUSE server that has one of its layers. */

const STRANGER = { uid: 4000, gid: 4000 };

guestTest('writes, syncs and closes on an overlay reach the server of its upper layer', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const since = async (work: () => Promise<unknown>) => writesAndSyncs(fuse, work);
  const fd = await client.open({ path: overlay.file('new'), flags: 'O_RDWR|O_CREAT' });
  t.deepEqual(await since(() => client.pwrite({ fd, data: 'x', offset: 0 })), ['WRITE'], 'a write');
  const sync = async (flags: string) =>
    since(() => client.pwritev2({ fd, chunks: [new Uint8Array(1)], offset: 0, flags }));
  t.deepEqual(await sync('RWF_DSYNC'), ['WRITE', 'FDATASYNC'], 'a write with RWF_DSYNC');
  t.deepEqual(await sync('RWF_SYNC'), ['WRITE', 'FSYNC'], 'a write with RWF_SYNC');
  const closed = await since(async () => client.close({ fd: await client.dup({ fd }) }));
  t.deepEqual(closed, ['FLUSH'], 'a close');
  await client.close({ fd });
  const synced = await client.open({ path: overlay.file('new'), flags: 'O_RDWR|O_DSYNC' });
  const written = await since(() => client.pwrite({ fd: synced, data: 'x', offset: 0 }));
  t.deepEqual(written, ['WRITE', 'FDATASYNC'], 'a write on O_DSYNC');
  await client.close({ fd: synced });
});

guestTest(
  'fsync of a directory on an overlay reaches the server of its upper layer, once it is there (E19)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await client.mkdir({ path: `${lower}/below` });
    await client.mkdir({ path: overlay.file('above') });
    /** What fsync and fdatasync say there: all, or data alone (FUSE_FSYNC_FDATASYNC). */
    const synced = async (fd: number) => {
      const after = await fuse.position();
      await client.fsync({ fd });
      await client.fdatasync({ fd });
      const requests = await fuse.requests({ opcode: 'FSYNCDIR', after });
      return requests.map(({ args }) => args['fsync_flags']);
    };
    for (const path of [overlay.path, overlay.file('above')]) {
      const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      t.deepEqual(await synced(fd), [0, 1], path);
      await client.close({ fd });
    }
    const fd = await client.open({ path: overlay.file('below'), flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await synced(fd), [], 'a directory of the lower layer');
    await client.writeFile({ path: overlay.file('below/new'), data: '' });
    t.deepEqual(await synced(fd), [0, 1], 'copied up since it was opened');
    await client.close({ fd });
  },
);

guestTest('a copy-up is synced, and O_TRUNC empties the file of the upper layer', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  await client.writeFile({ path: `${lower}/f`, data: 'from below' });
  const after = await fuse.position();
  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR' });
  const made = await fuse.opcodes({ opcode: ['WRITE', 'FSYNC', 'RENAME', 'RENAME2', 'LINK'], after });
  const synced = made.indexOf('FSYNC');
  t.true(synced > made.indexOf('WRITE'), `what was copied is synced: ${made.join(', ')}`);
  t.is(text(await client.readFile({ path: fuse.backing('upper/f') })), 'from below');
  await client.close({ fd });

  const cut = await client.open({ path: overlay.file('old'), flags: 'O_RDWR|O_TRUNC' });
  t.is((await client.stat({ path: fuse.backing('upper/old') })).size, 0, 'the upper file');
  t.is((await client.fstat({ fd: cut })).size, 0, 'the file of the overlay');
  await client.close({ fd: cut });
});

/** What copying up syncs, in this order: an empty file, a directory, a file with data. */
const SYNCED: Readonly<Record<string, readonly (readonly string[])[]>> = {
  volatile: [[], [], []],
  'fsync=auto': [[], [], ['FSYNC']],
  'fsync=strict': [['FSYNC'], ['FSYNCDIR'], ['FSYNC']],
};

/** Those options of SYNCED that this kernel has. */
async function syncOptions(guest: TestGuest, client: Client): Promise<string[]> {
  const lower = await guest.directory('ext4', 'lower');
  const request = overlayRequest({ lower, ...(await upperOn(guest)), options: 'fsync=auto' });
  const hasModes = (await guest.mountErrno(request, client)) === 'ok';
  return Object.keys(SYNCED).filter((option) => hasModes || !option.startsWith('fsync='));
}

guestTest('data that are copied up are synced, metadata only with fsync=strict', async (t, guest) => {
  await using client = await guest.client();
  for (const option of [undefined, ...(await syncOptions(guest, client))]) {
    await using stack = await upperOnFuse(guest, client, option);
    const { overlay, fuse, lower } = stack;
    await client.writeFile({ path: `${lower}/empty`, data: '' });
    await client.mkdir({ path: `${lower}/directory` });
    await client.writeFile({ path: `${lower}/file`, data: 'from below' });
    const synced: string[][] = [];
    for (const name of ['empty', 'directory', 'file']) {
      const after = await fuse.position();
      await client.chmod({ path: overlay.file(name), mode: 0o700 });
      const asked = await fuse.requests({ opcode: ['FSYNC', 'FSYNCDIR'], after });
      synced.push(asked.map(({ opcode }) => opcode));
      const dataAlone = asked.filter(({ args }) => args['fsync_flags'] !== 0);
      t.deepEqual(dataAlone, [], `${option ?? 'no option'}, ${name}: the metadata are synced as well`);
    }
    const expected = SYNCED[option ?? 'fsync=auto'];
    t.deepEqual(synced, expected, `${option ?? 'no option'}: an empty file, a directory, a file with data`);
  }
});

guestTest(
  'fsync of a file whose data are in the lower layer reaches the server of the upper one, for metadata alone',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'metacopy=on');
    const { overlay, fuse, lower } = stack;
    await client.writeFile({ path: `${lower}/f`, data: 'from below' });
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    await client.chmod({ path: overlay.file('f'), mode: 0o600 });
    const mark = { path: fuse.backing('upper/f'), name: 'trusted.overlay.metacopy' };
    t.is(await client.errno.getxattr(mark), 'ok', 'metadata alone is copied up');
    t.deepEqual(await writesAndSyncs(fuse, () => client.fsync({ fd })), ['FSYNC'], 'fsync');
    t.deepEqual(await writesAndSyncs(fuse, () => client.fdatasync({ fd })), [], 'fdatasync');
    await client.close({ fd });
  },
);

guestTest(
  'fsync of a file that is not copied up asks nothing of the server of its layer',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    t.deepEqual(await writesAndSyncs(fuse, () => client.fsync({ fd })), [], 'fsync');
    t.deepEqual(await writesAndSyncs(fuse, () => client.fdatasync({ fd })), [], 'fdatasync');
    await client.close({ fd });
  },
);

guestTest('on a volatile overlay nothing is synced', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client, 'volatile');
  const { overlay, fuse } = stack;
  const since = async (work: () => Promise<unknown>) => writesAndSyncs(fuse, work);
  const fd = await client.open({ path: overlay.file('new'), flags: 'O_RDWR|O_CREAT' });
  t.deepEqual(await since(() => client.pwrite({ fd, data: 'x', offset: 0 })), ['WRITE'], 'a write');
  t.deepEqual(await since(() => client.fsync({ fd })), [], 'fsync');
  t.deepEqual(await since(() => client.fdatasync({ fd })), [], 'fdatasync');
  for (const flags of ['RWF_DSYNC', 'RWF_SYNC']) {
    const write = { fd, chunks: [new Uint8Array(1)], offset: 0, flags };
    t.deepEqual(await since(() => client.pwritev2(write)), ['WRITE'], `a write with ${flags}`);
  }
  await client.close({ fd });
  const directory = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const after = await fuse.position();
  await client.fsync({ fd: directory });
  t.deepEqual(await fuse.opcodes({ opcode: 'FSYNCDIR', after }), [], 'fsync of a directory');
  await client.close({ fd: directory });
});

guestTest('who may read a file of an overlay needs no rights on its layers', async (t, guest) => {
  await using client = await guest.client();
  // Nobody but who mounted it may use this one.
  await using stack = await lowerOnFuse(guest, client, { allowOther: false });
  const { overlay, fuse } = stack;
  await client.chmod({ path: overlay.path, mode: 0o755 });
  await using stranger = await guest.client();
  await stranger.chdir({ path: overlay.path });
  await stranger.setCredentials(STRANGER);
  const after = await fuse.position();
  t.is(text(await stranger.readFile({ path: 'f' })), 'from below');
  const map = await stranger.open({ path: 'f', flags: 'O_RDONLY' });
  t.is(await stranger.errno.mmap({ fd: map, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' }), 'ok');
  await stranger.close({ fd: map });
  t.is(await stranger.errno.open({ path: 'f', flags: 'O_WRONLY' }), 'EACCES', 'the mode counts');
  const asked = await fuse.requests({ opcode: ['OPEN', 'READ'], after });
  t.deepEqual(
    [...new Set(asked.map(({ uid }) => uid))],
    [0],
    'the data are asked in the name of who mounted',
  );
});

guestTest(
  'who lists a directory of an overlay or reads a link needs no rights on its layers',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client, { allowOther: false });
    const { overlay, fuse } = stack;
    await fill(client, fuse.root, ['d/', 'd/f']);
    await client.chmod({ path: fuse.backing('d'), mode: 0o755 });
    await client.symlink({ path: fuse.backing('link'), target: 'd' });
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials(STRANGER);
    const after = await fuse.position();
    t.deepEqual(await stranger.readdir({ path: 'd' }), ['f'], 'a list');
    t.is(await stranger.readlink({ path: 'link' }), 'd', 'a link');
    for (const opcode of ['OPENDIR', 'READLINK'] as const) {
      const asked = await fuse.requests({ opcode, after });
      t.deepEqual(new Set(asked.map(({ uid }) => uid)), new Set([0]), `${opcode} is who mounted it asking`);
    }
  },
);

guestTest('a file of a read-only lower layer may be written: it is copied up', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client, { flags: 'MS_RDONLY' });
  const { overlay, fuse } = stack;
  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'FROM', offset: 0 });
  await client.close({ fd });
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'FROM below');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'from below');
});

guestTest('a file that is emptied while it is copied up is not read', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const opcode = ['READ', 'COPY_FILE_RANGE', 'LSEEK'] as const;
  const copied = async (path: string, flags: string) => {
    const after = await fuse.position();
    const fd = await client.open({ path: overlay.file(path), flags });
    t.is((await client.fstat({ fd })).size, flags.includes('O_TRUNC') ? 0 : 10, `${flags}: the size`);
    await client.close({ fd });
    return fuse.opcodes({ opcode, after });
  };
  for (const name of ['g', 'h']) await client.writeFile({ path: fuse.backing(name), data: 'from below' });
  t.deepEqual(await copied('f', 'O_RDWR|O_TRUNC'), [], 'O_TRUNC');
  t.deepEqual(await copied('h', 'O_RDONLY|O_TRUNC'), [], 'O_TRUNC of who only wants to read');
  t.not((await copied('g', 'O_RDWR')).length, 0, 'without O_TRUNC the data are copied');
  for (const name of ['f', 'h'])
    t.is(text(await client.readFile({ path: fuse.backing(name) })), 'from below', 'the lower file stays');
});

guestTest('a name that is too long for a lower layer is not in it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  await fuse.fail('LOOKUP', 'ENAMETOOLONG');
  t.is(await client.errno.stat({ path: overlay.file('long') }), 'ENOENT');
  await client.writeFile({ path: overlay.file('long'), data: 'from above' });
  t.is(
    text(await client.readFile({ path: overlay.file('long') })),
    'from above',
    'it may be in the upper one',
  );
});

guestTest(
  'a close on an overlay is told to the layer in the name of who mounted it, and its error is passed on',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await client.chmod({ path: overlay.path, mode: 0o777 });
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials(STRANGER);
    const fd = await stranger.open({ path: 'new', flags: 'O_RDWR|O_CREAT' });
    const after = await fuse.position();
    await stranger.close({ fd: await stranger.dup({ fd }) });
    const [flush] = await fuse.requests({ opcode: 'FLUSH', after });
    t.like(flush, { uid: 0, gid: 0 });
    await fuse.fail('FLUSH', 'EDQUOT', 1);
    t.is(await stranger.errno.close({ fd }), 'EDQUOT');
  },
);

guestTest('a truncation of an open file of an overlay names no handle to the layer', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const fd = await client.open({ path: overlay.file('old'), flags: 'O_RDWR' });
  const after = await fuse.position();
  await client.ftruncate({ fd, length: 4 });
  const asked = await fuse.requests({ opcode: 'SETATTR', after });
  const valid = asked.map(({ args }) => Number(args['valid']) & FATTR_FH);
  t.deepEqual([...new Set(valid)], [0], 'the handle would be one of a file of the overlay');
  t.is(text(await client.readFile({ path: fuse.backing('upper/old') })), 'from');
  await client.close({ fd });
});
