import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import { concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import type { InitFlagName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { MAPPED, mounted, namespace } from '../lib/idmapped.ts';

/** Whose a file is on an idmapped mount of FUSE, wherever the kernel asks: each id of the server is there 1000 more. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const ACL = 'system.posix_acl_access';
const KILL_SGID = 1;
const READ = 4;
const STATX_ALL = 0xfff;

interface Idmapped extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly root: Client;
  /** Where it is mounted idmapped. */
  readonly target: string;
  /** Somebody who stands there. */
  readonly somebody: (uid: number, gid: number, groups?: number[]) => Promise<Client>;
}

/** A file `f` of the server's user 2 and group 3, all of which is believed. */
async function idmapped(guest: TestGuest, addFlags: readonly InitFlagName[] = []): Promise<Idmapped> {
  guest.needs(guest.expected.idmappedFuse === 'ok', 'idmapped mounts of FUSE');
  const stack = new AsyncDisposableStack();
  const init = { addFlags: ['ALLOW_IDMAP', ...addFlags] } as const;
  const options = { passthrough: 'off', defaultPermissions: true, allowOther: true, init } as const;
  const fuse = stack.use(await guest.mountFuse({ ...options, entryValidS: LONG, attrValidS: LONG }));
  const root = stack.use(await guest.client());
  const inside = stack.use(await namespace(guest, root));
  await root.chmod({ path: fuse.root, mode: 0o777 });
  await root.writeFile({ path: fuse.backing('f'), data: 'contents', mode: 0o640 });
  await root.chown({ path: fuse.backing('f'), uid: 2, gid: 3 });
  const target = await guest.directory('area', 'idmapped');
  await root.mountIdmapped({ source: fuse.path, target, namespaceOf: inside.pid });
  stack.use(mounted(root, target));
  const somebody = async (uid: number, gid: number, groups: number[] = []): Promise<Client> => {
    const client = stack.use(await guest.client());
    await client.chdir({ path: target });
    await client.setCredentials({ uid, gid, groups });
    return client;
  };
  return { fuse, root, target, somebody, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

guestTest(
  'stat on an idmapped mount tells the ids of the mount, asked for, kept or of STATX (E15)',
  async (t, guest) => {
    await using setup = await idmapped(guest);
    const { fuse, root, target } = setup;
    const path = `${target}/f`;
    const told = { uid: MAPPED + 2, gid: MAPPED + 3 };
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      t.like(await root.stat({ path, flags }), told, flags);
      t.like(await root.stat({ path: fuse.file('f'), flags }), { uid: 2, gid: 3 }, `${flags}, not idmapped`);
    }
    // `fuse_statx_out`: 32 bytes, mask, blksize, attributes (u64), nlink, uid, gid, mode; the inode number and all else.
    const head = concat(new Uint8Array(32), u32(STATX_ALL), u32(4096), u64(0n));
    const attributes = concat(u32(1), u32(2), u32(3), u32(0o100_640), u64(77n));
    const body = concat(head, attributes, new Uint8Array(288 - head.length - attributes.length));
    await fuse.rule({ match: { opcode: 'STATX' }, action: { do: 'body', body } });
    t.like(
      await root.stat({ path, btime: true, flags: 'AT_STATX_FORCE_SYNC' }),
      { ...told, ino: 77 },
      'STATX',
    );
    t.is((await fuse.requests('STATX')).length, 1, 'which is asked');
  },
);

guestTest(
  'who is refused on an idmapped mount by what is kept of a file is let in by newer attributes (E15, F4)',
  async (t, guest) => {
    await using setup = await idmapped(guest);
    const { fuse, root, target, somebody } = setup;
    const client = await somebody(MAPPED + 5, MAPPED + 5);
    await root.stat({ path: `${target}/f` });
    const open = (): Promise<string> => client.errno.open({ path: 'f', flags: 'O_RDONLY' });
    t.is(await open(), 'EACCES', 'a file of somebody else');
    await root.chown({ path: fuse.backing('f'), uid: 5, gid: 5 });
    const after = await fuse.position();
    t.is(await open(), 'ok', 'it is given away behind FUSE');
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR'], 'which is asked for');
    t.is(await open(), 'ok');
    await root.chown({ path: fuse.backing('f'), uid: MAPPED + 5, gid: MAPPED + 5 });
    await root.stat({ path: `${target}/f`, flags: 'AT_STATX_FORCE_SYNC' });
    t.is(await open(), 'EACCES', 'a file of the same number with the server is of nobody there');
  },
);

guestTest(
  'on an idmapped mount the owner there changes mode, times and group of a file, and nobody else does (E15, F4)',
  async (t, guest) => {
    await using setup = await idmapped(guest);
    const { fuse, somebody } = setup;
    const owner = await somebody(MAPPED + 2, MAPPED + 3, [MAPPED + 4]);
    t.is(await owner.errno.chmod({ path: 'f', mode: 0o600 }), 'ok', 'chmod by the owner');
    t.is(await owner.errno.utimens({ path: 'f', atimeNs: 1e9, mtimeNs: 2e9 }), 'ok', 'utimens by the owner');
    t.is(await owner.errno.chown({ path: 'f', uid: -1, gid: MAPPED + 4 }), 'ok', 'a group of the owner');
    t.is(await owner.errno.chown({ path: 'f', uid: -1, gid: MAPPED + 5 }), 'EPERM', 'a foreign group');
    const other = await somebody(2, 2);
    t.is(
      await other.errno.chmod({ path: 'f', mode: 0o644 }),
      'EPERM',
      'chmod by whose number the server has',
    );
    const stat = await owner.stat({ path: 'f', flags: 'AT_STATX_DONT_SYNC' });
    t.like(stat, { mode: 0o100_600, uid: MAPPED + 2, gid: MAPPED + 4, mtimeNs: 2e9 });
    const sent = await fuse.requests('SETATTR');
    t.is(sent.at(-1)?.args['gid'], 4, 'the server is told its own number of the group');
  },
);

guestTest(
  'an access control list on an idmapped mount has the ids of the mount, and asks to clear setgid of strangers (A45, E15)',
  async (t, guest) => {
    await using setup = await idmapped(guest, ['POSIX_ACL', 'SETXATTR_EXT']);
    const { fuse, root, target, somebody } = setup;
    for (const [gid, flags] of [
      [MAPPED + 3, 0],
      [3, KILL_SGID],
    ] as const) {
      const owner = await somebody(MAPPED + 2, gid);
      const data = aclFor([MAPPED + 6], READ);
      const after = await fuse.position();
      t.is(await owner.errno.setxattr({ path: 'f', name: ACL, data }), 'ok', `who is in group ${gid}`);
      const [request] = await fuse.requests({ opcode: 'SETXATTR', after });
      t.is(request?.args['setxattr_flags'], flags, `a file of group ${MAPPED + 3}, by who is in ${gid}`);
      t.deepEqual(await root.getxattr({ path: `${target}/f`, name: ACL }), data, 'what is told there');
      const below = await root.getxattr({ path: fuse.backing('f'), name: ACL });
      t.deepEqual(below, aclFor([6], READ), 'what the server has');
    }
  },
);

guestTest(
  'who makes a name on an idmapped mount is told with its group there, by the number of the server (E15)',
  async (t, guest) => {
    guest.needs(guest.expected.offers.includes('CREATE_SUPP_GROUP'), 'supplementary groups in requests');
    await using setup = await idmapped(guest, ['CREATE_SUPP_GROUP']);
    const { fuse, root, somebody } = setup;
    const client = await somebody(MAPPED + 2, MAPPED + 2, [MAPPED + 3, 4]);
    for (const [name, gid, groups] of [
      ['of a group there', 3, ['3']],
      ['of the group there', 2, undefined],
      ['of the same number elsewhere', 4, undefined],
    ] as const) {
      await root.mkdir({ path: fuse.backing(name) });
      await root.chown({ path: fuse.backing(name), uid: 0, gid });
      await root.chmod({ path: fuse.backing(name), mode: 0o777 });
      await client.mkdir({ path: `${name}/made` });
      const [request] = await fuse.requests({ opcode: 'MKDIR', path: `/${name}/made` });
      t.like(request, { uid: 2, gid: 2 }, `${name}: who makes it`);
      t.deepEqual(request?.args['groups'], groups, name);
    }
  },
);
