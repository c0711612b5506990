import { guestTest } from '../lib/guest-test.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Permissions are decided by attributes that count, and by fresh ones where old ones would deny. */

const STRANGER = 4000;
const LONG = 100_000;
/** What `env` says of a program that cannot be executed. */
const CANNOT_EXECUTE = 126;
/** statx(2) */
const BASIC_STATS = 0x7ff;

/** A stranger in a mount with default_permissions whose names are known. */
async function strangerIn(
  guest: TestGuest,
  attrValidS: number,
): Promise<{ fuse: FuseMount; root: Client; stranger: Client }> {
  const fuse = await guest.mountFuse({
    allowOther: true,
    defaultPermissions: true,
    entryValidS: LONG,
    attrValidS,
  });
  const root = await guest.client();
  await root.chmod({ path: fuse.root, mode: 0o755 });
  const stranger = await guest.client();
  await stranger.chdir({ path: fuse.path });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  return { fuse, root, stranger };
}

guestTest('attributes that count no longer do not decide who opens (F4)', async (t, guest) => {
  const { fuse, root, stranger } = await strangerIn(guest, 0);
  await using _fuse = fuse;
  await using _root = root;
  await using _stranger = stranger;
  await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
  await root.chmod({ path: fuse.backing('f'), mode: 0o644 });
  await stranger.close({ fd: await stranger.open({ path: 'f', flags: 'O_RDONLY' }) });
  await root.chmod({ path: fuse.backing('f'), mode: 0o600 });
  const after = await fuse.position();
  t.is(await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }), 'EACCES', 'the right is gone');
  t.deepEqual(await fuse.opcodes({ path: '/f', after }), ['GETATTR'], 'which is asked for once');
  await root.chmod({ path: fuse.backing('f'), mode: 0o644 });
  t.is(await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }), 'ok', 'and is there again');
});

guestTest(
  'before attributes that still count deny, the server is asked for fresh ones (F4)',
  async (t, guest) => {
    const { fuse, root, stranger } = await strangerIn(guest, LONG);
    await using _fuse = fuse;
    await using _root = root;
    await using _stranger = stranger;
    await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
    await root.chmod({ path: fuse.backing('f'), mode: 0o600 });
    t.is(await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }), 'EACCES');
    await root.chmod({ path: fuse.backing('f'), mode: 0o644 });
    t.is(
      await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }),
      'ok',
      'a right that was added counts at once',
    );
    const after = await fuse.position();
    t.is(await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }), 'ok');
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), [], 'and is believed then');
  },
);

guestTest('attributes that the server has taken back do not decide who opens (F4)', async (t, guest) => {
  const { fuse, root, stranger } = await strangerIn(guest, LONG);
  await using _fuse = fuse;
  await using _root = root;
  await using _stranger = stranger;
  await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
  await root.chmod({ path: fuse.backing('f'), mode: 0o644 });
  const open = () => stranger.errno.open({ path: 'f', flags: 'O_RDONLY' });
  t.is(await open(), 'ok');
  await root.chmod({ path: fuse.backing('f'), mode: 0o600 });
  t.is(await open(), 'ok', 'a mode that is believed');
  t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
  t.is(await open(), 'EACCES', 'after INVAL_INODE the mode is asked for');
});

guestTest(
  'who opens is decided without asking again after what changes no right: times alone are outdated (F4)',
  async (t, guest) => {
    const { fuse, root, stranger } = await strangerIn(guest, LONG);
    await using _fuse = fuse;
    await using _root = root;
    await using _stranger = stranger;
    await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o644 });
    const open = { path: 'f', flags: 'O_RDONLY' };
    t.is(await stranger.errno.open(open), 'ok');
    for (const [what, change] of Object.entries({
      'a read': () => root.readFile({ path: fuse.file('f') }),
      'an extended attribute that is set': () =>
        root.setxattr({ path: fuse.file('f'), name: 'trusted.n', data: 'value' }),
      'a rename': async () => {
        await root.rename({ from: fuse.file('f'), to: fuse.file('g') });
        await root.rename({ from: fuse.file('g'), to: fuse.file('f') });
      },
    })) {
      await change();
      const after = await fuse.position();
      t.is(await stranger.errno.open(open), 'ok', what);
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', path: '/f', after }), [], `after ${what}`);
    }
  },
);

guestTest(
  'without default_permissions a program is executed as soon as one x bit is there, whosever it is (F4, F12)',
  async (t, guest) => {
    for (const attrValidS of [0, LONG]) {
      await using fuse = await guest.mountFuse({ attrValidS, entryValidS: LONG });
      await using root = await guest.client();
      for (const [mode, code] of [
        [0o654, 0],
        [0o645, 0],
        [0o644, CANNOT_EXECUTE],
      ] as const) {
        const name = mode.toString(8);
        await guest.run(['cp', '/usr/bin/true', fuse.backing(name)]);
        await root.chmod({ path: fuse.backing(name), mode });
        const ended = await guest.tryRun(['env', fuse.file(name)]);
        t.is(ended.code, code, `attributes that count ${attrValidS} s: mode ${name}`);
      }
    }
  },
);

guestTest(
  'without default_permissions root executes nothing that has no x bit either (F4, F12)',
  async (t, guest) => {
    for (const attrValidS of [0, LONG]) {
      await using fuse = await guest.mountFuse({ attrValidS, entryValidS: LONG });
      await using root = await guest.client();
      await guest.run(['cp', '/usr/bin/true', fuse.backing('true')]);
      await root.chmod({ path: fuse.backing('true'), mode: 0o644 });
      const run = async (): Promise<number | null> => {
        return (await guest.tryRun(['env', fuse.file('true')])).code;
      };
      t.is(await run(), CANNOT_EXECUTE, `attributes that count ${attrValidS} s: without x`);
      await root.chmod({ path: fuse.backing('true'), mode: 0o744 });
      t.is(await run(), 0, `attributes that count ${attrValidS} s: x was added behind FUSE`);
    }
  },
);

guestTest(
  'without allow_other a stranger is told nothing of the mount, not even by stat (F3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: false });
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    await using stranger = await guest.client();
    // Of an open directory none above is asked.
    const dirfd = await stranger.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    const before = await fuse.position();
    t.is(await stranger.errno.stat({ path: fuse.path }), 'EACCES', 'stat of the root');
    t.is(await stranger.errno.access({ path: fuse.path, mode: 'R_OK' }), 'EACCES', 'access');
    const itself = { dirfd, path: '', flags: 'AT_EMPTY_PATH' };
    t.is(await stranger.errno.stat(itself), 'EACCES', 'stat of the open root');
    const { mask, devMinor, mode } = await stranger.stat({ ...itself, mask: 0 });
    const told = { attributes: mask & BASIC_STATS, mode, devMinor };
    const device = { attributes: 0, mode: 0, devMinor: fuse.connection };
    t.deepEqual(told, device, 'who asks for nothing is told the device');
    t.deepEqual(await fuse.opcodes({ after: before }), [], 'and the server is not asked');
    await stranger.close({ fd: dirfd });
  },
);

/** Real, effective and saved ids of a user and a group. */
const OTHER_IDS = [
  ['real', [STRANGER, 0, 0]],
  ['effective', [0, STRANGER, 0]],
  ['saved', [0, 0, STRANGER]],
] as const;

guestTest(
  'without allow_other a process is told nothing as soon as one of its ids is not that of who mounted (F3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: false });
    for (const [which, ids] of [['no', [0, 0, 0]], ...OTHER_IDS] as const) {
      for (const kind of ['uid', 'gid'] as const) {
        await using client = await guest.client();
        await client.chdir({ path: fuse.path });
        await client.setCredentials({ uid: 0, gid: 0, [kind]: ids });
        const expected = which === 'no' ? 'ok' : 'EACCES';
        t.is(await client.errno.stat({ path: '.' }), expected, `${which} ${kind} of another`);
      }
    }
  },
);
