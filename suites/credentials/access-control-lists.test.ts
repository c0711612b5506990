import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Access control lists that the kernel keeps beside attributes, with POSIX_ACL. */

const STRANGER = 1000;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const [READ, READ_WRITE] = [4, 6];

interface Setup extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly root: Client;
  /** What an open by a stranger gives, and how often the list is asked for by it. */
  readonly opens: (flags?: string) => Promise<[errno: string, asked: number]>;
}

/** A file that a list gives somebody so much of, the stranger if nobody else; all is believed that the server says. */
async function listed(guest: TestGuest, permissions: number, uid = STRANGER): Promise<Setup> {
  const stack = new AsyncDisposableStack();
  const init = { addFlags: ['POSIX_ACL'], dropFlags: ['READDIRPLUS_AUTO'] } as const;
  const fuse = stack.use(
    await guest.mountFuse({ init, defaultPermissions: true, entryValidS: LONG, attrValidS: LONG }),
  );
  const root = stack.use(await guest.client());
  await root.chmod({ path: fuse.root, mode: 0o755 });
  await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
  await root.setxattr({ path: fuse.backing('f'), name: ACCESS, data: aclFor([uid], permissions) });
  const stranger = stack.use(await guest.client());
  await stranger.chdir({ path: fuse.path });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  const opens = async (flags = 'O_RDONLY'): Promise<[string, number]> => {
    const after = await fuse.position();
    const errno = await stranger.errno.open({ path: 'f', flags });
    const asked = await fuse.requests({ opcode: 'GETXATTR', path: '/f', after });
    return [errno, asked.filter(({ args }) => args['name'] === ACCESS).length];
  };
  return { fuse, root, opens, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** What brings attributes of the file anew. */
const NEWS: Readonly<Record<string, (root: Client, fuse: FuseMount) => Promise<unknown>>> = {
  'a stat that asks the server': (root, fuse) =>
    root.stat({ path: fuse.file('f'), flags: 'AT_STATX_FORCE_SYNC' }),
  'a change of the mode': (root, fuse) => root.chmod({ path: fuse.file('f'), mode: 0o640 }),
  'a list of the directory': (root, fuse) => root.readdir({ path: fuse.path }),
  // Which must not find it, and so does not believe it.
  'a LOOKUP': (root, fuse) => root.errno.mkdir({ path: fuse.file('f') }),
};

guestTest(
  'an access control list is asked for once, and again after attributes have come anew (A45, F4)',
  async (t, guest) => {
    await using setup = await listed(guest, READ);
    const { fuse, root, opens } = setup;
    await opens();
    for (const [what, bring] of Object.entries(NEWS)) {
      t.deepEqual(await opens(), ['ok', 0], `before ${what}: the list is kept`);
      await bring(root, fuse);
      t.deepEqual(await opens(), ['ok', 1], `after ${what}: the list is asked for`);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'before an access control list that is kept denies, the server is asked for a fresh one (A45, F4)',
  async (t, guest) => {
    // Where the mode has nothing for the group no list is looked at, and none is kept.
    await using setup = await listed(guest, READ, STRANGER + 1);
    const { fuse, root, opens } = setup;
    const [errno, asked] = await opens();
    t.is(errno, 'EACCES', 'a list for somebody else');
    t.true(asked > 0, 'a list for somebody else is looked at');
    await root.setxattr({ path: fuse.backing('f'), name: ACCESS, data: aclFor([STRANGER], READ) });
    t.deepEqual(await opens(), ['ok', 1], 'a right that was added behind FUSE counts at once');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'an access control list that is set through FUSE is the one that counts and that is told (A45, F4)',
  async (t, guest) => {
    await using setup = await listed(guest, READ);
    const { fuse, root, opens } = setup;
    t.is((await opens())[0], 'ok');
    const list = { path: fuse.file('f'), name: ACCESS };
    const data = aclFor([STRANGER], READ_WRITE);
    await root.setxattr({ ...list, data });
    t.deepEqual(await root.getxattr(list), data, 'what is told');
    t.is((await opens('O_RDWR'))[0], 'ok', 'what counts');
    await root.removexattr(list);
    t.is(await root.errno.getxattr(list), 'ENODATA', 'removed: what is told');
    t.is((await opens())[0], 'EACCES', 'removed: what counts');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'without POSIX_ACL the mode alone decides, and no list is asked for (A45, F4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ defaultPermissions: true });
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
    await root.setxattr({ path: fuse.backing('f'), name: ACCESS, data: aclFor([STRANGER], READ) });
    await using stranger = await guest.client();
    await stranger.chdir({ path: fuse.path });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    t.is(await stranger.errno.open({ path: 'f', flags: 'O_RDONLY' }), 'EACCES');
    t.deepEqual(await fuse.requests('GETXATTR'), []);
  },
);

guestTest(
  'the list that new files of a directory get is told and set by its own name (A45)',
  async (t, guest) => {
    await using setup = await listed(guest, READ);
    const { fuse, root } = setup;
    await root.mkdir({ path: fuse.backing('d') });
    const list = { path: fuse.file('d'), name: DEFAULT };
    const data = aclFor([STRANGER], READ);
    await root.setxattr({ ...list, data });
    t.deepEqual(await root.getxattr({ ...list, path: fuse.backing('d') }), data, 'at the server');
    t.deepEqual(await root.getxattr(list), data, 'through FUSE');
    t.is(await root.errno.getxattr({ ...list, name: ACCESS }), 'ENODATA', 'the directory’s own');
  },
);

guestTest(
  'an access control list is told anew once the server has taken the inode back (A45)',
  async (t, guest) => {
    await using setup = await listed(guest, READ);
    const { fuse, root } = setup;
    await root.mkdir({ path: fuse.backing('d') });
    for (const [file, name] of [
      ['f', ACCESS],
      ['d', DEFAULT],
    ] as const) {
      const list = { path: fuse.file(file), name };
      const behind = { path: fuse.backing(file), name };
      await root.setxattr({ ...behind, data: aclFor([STRANGER], READ) });
      t.deepEqual(await root.getxattr(list), aclFor([STRANGER], READ), `${name}: at first`);
      await root.setxattr({ ...behind, data: aclFor([STRANGER], READ_WRITE) });
      const kept = `${name}: changed behind FUSE: what is kept`;
      t.deepEqual(await root.getxattr(list), aclFor([STRANGER], READ), kept);
      t.is(await fuse.notify({ inode: `/${file}`, offset: -1, length: 0 }), 'ok');
      t.deepEqual(await root.getxattr(list), aclFor([STRANGER], READ_WRITE), `${name}: after INVAL_INODE`);
    }
  },
);

guestTest('without POSIX_ACL no access control list is kept (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
  await using root = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
  await root.mkdir({ path: fuse.backing('d') });
  for (const [file, name] of [
    ['f', ACCESS],
    ['d', DEFAULT],
  ] as const) {
    const after = await fuse.position();
    for (const permissions of [READ, READ_WRITE]) {
      const data = aclFor([STRANGER], permissions);
      await root.setxattr({ path: fuse.backing(file), name, data });
      const told = await root.getxattr({ path: fuse.file(file), name });
      t.deepEqual(told, data, `${name} ${permissions}: as the server has it`);
    }
    t.is((await fuse.requests({ opcode: 'GETXATTR', after })).length, 2, `${name}: it is asked each time`);
  }
});

guestTest(
  'an access control list that is set decides at once by the mode that it makes, too (A45, F4)',
  async (t, guest) => {
    await using setup = await listed(guest, READ);
    const { fuse, root, opens } = setup;
    await root.chown({ path: fuse.backing('f'), uid: STRANGER, gid: 0 });
    t.is((await opens('O_RDWR'))[0], 'ok', 'the owner may write');
    const data = aclFor([STRANGER + 1], READ);
    // The permissions of the first entry, which is the owner's: they become those of the mode.
    new DataView(data.buffer).setUint16(6, READ, true);
    await root.setxattr({ path: fuse.file('f'), name: ACCESS, data });
    t.is((await opens('O_RDWR'))[0], 'EACCES', 'a list that lets the owner read');
    t.is((await opens('O_RDONLY'))[0], 'ok');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** FUSE_SETXATTR_ACL_KILL_SGID */
const KILL_SGID = 1;
/** statx(2) */
const STATX_SIZE = 0x200;
const GROUP = 5000;

guestTest(
  'with SETXATTR_EXT the server is asked to clear the setgid bit when somebody outside of the group sets a list (A45, F12)',
  async (t, guest) => {
    const init = { addFlags: ['POSIX_ACL', 'SETXATTR_EXT'] } as const;
    await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
    await root.chown({ path: fuse.backing('f'), uid: STRANGER, gid: GROUP });
    for (const [who, credentials, flags] of [
      ['root', { uid: 0, gid: 0 }, 0],
      ['the owner, of another group', { uid: STRANGER, gid: STRANGER }, KILL_SGID],
      ['the owner, of the group as well', { uid: STRANGER, gid: STRANGER, groups: [GROUP] }, 0],
    ] as const) {
      await using client = await guest.client();
      await client.chdir({ path: fuse.path });
      await client.setCredentials({ ...credentials, groups: 'groups' in credentials ? [GROUP] : [] });
      const after = await fuse.position();
      await client.setxattr({ path: 'f', name: ACCESS, data: aclFor([STRANGER + 1], READ) });
      const [request] = await fuse.requests({ opcode: 'SETXATTR', after });
      t.is(request?.args['setxattr_flags'], flags, who);
    }
  },
);

guestTest(
  'without POSIX_ACL the server is never asked to clear the setgid bit, whoever sets a list (A45, F12)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({
      init: { addFlags: ['SETXATTR_EXT'] },
      attrValidS: LONG,
      entryValidS: LONG,
    });
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
    await root.chown({ path: fuse.backing('f'), uid: STRANGER, gid: GROUP });
    await using owner = await guest.client();
    await owner.chdir({ path: fuse.path });
    await owner.setCredentials({ uid: STRANGER, gid: STRANGER });
    await owner.setxattr({ path: 'f', name: ACCESS, data: aclFor([STRANGER + 1], READ) });
    const [request] = await fuse.requests('SETXATTR');
    t.like(request?.args, { name: ACCESS, setxattr_flags: 0 });
    await owner.stat({ path: 'f', mask: STATX_SIZE });
    t.deepEqual(
      await fuse.opcodes('GETATTR'),
      [],
      'nor is it asked for more than the time of the change then',
    );
    await owner.removexattr({ path: 'f', name: ACCESS });
    t.deepEqual(await fuse.opcodes({ opcode: ['SETXATTR', 'REMOVEXATTR'] }), ['SETXATTR', 'REMOVEXATTR']);
  },
);

guestTest(
  'a server that has no SETXATTR is asked to set a list once, and then there are none to set (A45)',
  async (t, guest) => {
    for (const init of [{ addFlags: ['POSIX_ACL'] }, {}] as const) {
      await using fuse = await guest.mountFuse({ init });
      await using root = await guest.client();
      await root.writeFile({ path: fuse.backing('f'), data: 'backing' });
      await fuse.fail('SETXATTR', 'ENOSYS');
      for (const name of [ACCESS, ACCESS, 'user.any']) {
        const set = { path: fuse.file('f'), name, data: aclFor([STRANGER], READ) };
        t.is(await root.errno.setxattr(set), 'EOPNOTSUPP', name);
      }
      t.deepEqual(await fuse.opcodes('SETXATTR'), ['SETXATTR']);
      t.is(
        await root.errno.removexattr({ path: fuse.file('f'), name: 'user.any' }),
        'ENODATA',
        'removing is another matter',
      );
      // Whose name is one like any other without POSIX_ACL, to earlier kernels.
      if (!('addFlags' in init)) continue;
      const list = { path: fuse.file('f'), name: ACCESS };
      t.is(await root.errno.removexattr(list), 'EOPNOTSUPP', 'removing a list is not');
    }
  },
);
