import { aclFor } from '../lib/access-control-list.ts';
import { concat, text } from '../lib/bytes.ts';
import { ATTR, ENTRY, u32 } from '../lib/entry-answer.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mapIds } from '../lib/idmapped.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { openErrno } from '../lib/open-errno.ts';
import type { MountRequest } from '../lib/stacked-mount.ts';

/** Servers in namespaces of their own, and callers from outside. */

const USER_NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount'];
const PID_NAMESPACE = ['unshare', '--pid', '--fork'];
/** Nobody in the server’s namespace, which has root alone. */
const STRANGER = 4000;
/** What ids are told as that a namespace does not have (/proc/sys/kernel/overflowuid). */
const OVERFLOW = 65_534;
const ACL = 'system.posix_acl_access';

interface Inside extends AsyncDisposable {
  readonly fuse: FuseMount;
  /** Path of a file for who is not in the mount namespace of the server. */
  readonly at: (name: string) => string;
}

/** A mount by who is root in a user namespace of its own, as it is root outside. */
async function mountedInside(guest: TestGuest, options: FuseOptions): Promise<Inside> {
  await using undo = new AsyncDisposableStack();
  const server = undo.use(await guest.server({ launcher: USER_NAMESPACE }));
  const fuse = undo.use(await guest.mountFuse({ server, passthrough: 'off', ...options }));
  const all = undo.move();
  return {
    fuse,
    at: (name) => `/proc/${server.pid}/root${fuse.file(name)}`,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

guestTest(
  'allow_other of a mount of a user namespace is for nobody outside of it, root included (F3)',
  async (t, guest) => {
    await using root = await guest.client();
    for (const [allowOther, errno] of [
      // Then it counts whose mount it is, and that is root’s.
      [false, 'ok'],
      [true, 'EACCES'],
    ] as const) {
      await using inside = await mountedInside(guest, { allowOther });
      const { fuse, at } = inside;
      await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const after = await fuse.position();
      t.is(await root.errno.stat({ path: at('f') }), errno, `allow_other ${allowOther}: stat`);
      t.is(await openErrno(root, at('f'), 'O_RDONLY'), errno, `allow_other ${allowOther}: open`);
      const asked = (await fuse.requests({ after })).length > 0;
      t.is(asked, errno === 'ok', `allow_other ${allowOther}: whether the server is asked`);
    }
  },
);

guestTest(
  'a request of who is nobody in the server’s user namespace is EOVERFLOW, and close tells of nobody (F1)',
  async (t, guest) => {
    await using inside = await mountedInside(guest, { allowOther: false });
    const { fuse, at } = inside;
    for (const [what, ids, told] of [
      ['no stranger', { uid: 0, gid: 0 }, { uid: 0, gid: 0 }],
      ['a stranger', { uid: STRANGER, gid: 0 }, { uid: OVERFLOW, gid: 0 }],
      ['who is in a strange group', { uid: 0, gid: STRANGER }, { uid: 0, gid: OVERFLOW }],
    ] as const) {
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: at('f'), flags: 'O_RDWR' });
      await client.setCredentials({ ...ids, groups: [] });
      const after = await fuse.position();
      const known = what === 'no stranger';
      t.is(await client.errno.fsync({ fd }), known ? 'ok' : 'EOVERFLOW', `${what}: fsync`);
      t.is((await fuse.requests({ opcode: 'FSYNC', after })).length, known ? 1 : 0, `${what}: FSYNC`);
      t.is(await fuse.waiting(), 0, `${what}: nothing waits for an answer`);
      await client.close({ fd });
      t.like((await fuse.requests({ opcode: 'FLUSH', after }))[0], told, `${what}: FLUSH`);
    }
  },
);

guestTest(
  'access control lists of a mount of a user namespace are not supported without POSIX_ACL (A45, F4)',
  async (t, guest) => {
    await using root = await guest.client();
    for (const agreed of [false, true]) {
      const init = agreed ? ({ addFlags: ['POSIX_ACL'] } as const) : {};
      await using inside = await mountedInside(guest, { allowOther: false, init });
      const { fuse, at } = inside;
      await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const list = { path: at('f'), name: ACL };
      const what = agreed ? 'with POSIX_ACL' : 'without';
      t.is(await root.errno.getxattr(list), agreed ? 'ENODATA' : 'EOPNOTSUPP', `${what}: getxattr`);
      if (agreed) continue;
      t.is(await root.errno.setxattr({ ...list, data: aclFor([0], 4) }), 'EOPNOTSUPP', `${what}: setxattr`);
      t.is(await root.errno.removexattr(list), 'EOPNOTSUPP', `${what}: removexattr`);
      const opcode = ['GETXATTR', 'SETXATTR', 'REMOVEXATTR'] as const;
      t.deepEqual(await fuse.opcodes({ opcode }), [], `${what}: the server is not asked`);
    }
  },
);

guestTest(
  'a server in a pid namespace of its own is told the number 0 of who is not in it',
  async (t, guest) => {
    await using server = await guest.server({ launcher: PID_NAMESPACE });
    await using fuse = await guest.mountFuse({ server, passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.pread({ fd, count: 8, offset: 0 });
    await client.close({ fd });
    const asked = await fuse.requests({ opcode: ['LOOKUP', 'OPEN', 'READ', 'FLUSH'] });
    t.deepEqual(
      asked.map(({ opcode, pid }) => [opcode, pid]),
      [
        ['LOOKUP', 0],
        ['OPEN', 0],
        ['READ', 0],
        ['FLUSH', 0],
      ],
    );
  },
);

guestTest(
  'who is in a user namespace of its own may use a mount of the one above with allow_other, lists and all (F3, A45)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: true });
    await using root = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await root.writeFile({ path: fuse.backing('listed'), data: 'contents' });
    const data = aclFor([0], 4);
    await root.setxattr({ path: fuse.backing('listed'), name: ACL, data });
    await using client = await guest.client({ launcher: ['unshare', '--user', '--map-root-user'] });
    t.is(await client.errno.stat({ path: fuse.file('f') }), 'ok', 'stat');
    t.is(await openErrno(client, fuse.file('f'), 'O_RDWR'), 'ok', 'open');
    const list = { path: fuse.file('f'), name: ACL };
    t.is(await client.errno.getxattr(list), 'ENODATA', 'a list that there is not');
    t.deepEqual(await client.getxattr({ ...list, path: fuse.file('listed') }), data, 'one that there is');
    t.is(await client.errno.setxattr({ ...list, data }), 'ok', 'a list is set');
    t.is(await client.errno.removexattr(list), 'ok', 'and removed');
  },
);

/** Longer than any test. Seconds. */
const LONG = 100_000;

guestTest(
  'an owner that the server’s user namespace does not have is nobody, also when it is believed',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await mountedInside(guest, { allowOther: false, attrValidS: LONG });
    const { fuse, at } = inside;
    for (const [name, said, told] of [
      ['owner', { uid: STRANGER, gid: 0 }, { uid: OVERFLOW, gid: 0 }],
      ['group', { uid: 0, gid: STRANGER }, { uid: 0, gid: OVERFLOW }],
      ['neither', { uid: 0, gid: 0 }, { uid: 0, gid: 0 }],
    ] as const) {
      await root.writeFile({ path: fuse.backing(name), data: 'contents' });
      const bytes = concat(u32(said.uid), u32(said.gid));
      const action = { do: 'patch', at: ENTRY.attr + ATTR.uid, bytes } as const;
      await fuse.rule({ match: { opcode: 'LOOKUP', path: `/${name}` }, action });
      const { uid, gid } = await root.stat({ path: at(name) });
      t.deepEqual({ uid, gid }, told, `${name} ${STRANGER}`);
    }
    t.deepEqual(await fuse.opcodes('GETATTR'), [], 'what LOOKUP has said is believed');
  },
);

guestTest(
  'nothing is given to an owner whom the server’s user namespace does not have: EOVERFLOW, and no request',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await mountedInside(guest, { allowOther: false });
    const { fuse, at } = inside;
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    for (const [what, ids] of Object.entries({
      user: { uid: STRANGER, gid: 0 },
      group: { uid: 0, gid: STRANGER },
    })) {
      const after = await fuse.position();
      t.is(await root.errno.chown({ path: at('f'), ...ids }), 'EOVERFLOW', `a ${what} that there is not`);
      const told = (await fuse.requests({ opcode: 'SETATTR', after })).map(({ args }) => [
        args['uid'],
        args['gid'],
      ]);
      t.deepEqual(told, [], `a ${what} that there is not: what the server is told`);
    }
    t.is(await root.errno.chown({ path: at('f'), uid: 0, gid: 0 }), 'ok', 'root is there');
  },
);

/** Ids of a namespace, from 0 on, and those outside of it that they are. */
const [IDS, OUTSIDE] = [10, 5000];

guestTest(
  'a mount of a user namespace shows its owner as that namespace knows it, in it and outside',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await guest.client({ launcher: ['unshare', '--user', '--mount', '--keep-caps'] });
    // Who answers is in the namespace: before, the launcher may still be on its way into it.
    await inside.getpid({});
    await mapIds(root, inside.pid, [`0 ${OUTSIDE} ${IDS}`]);
    const fd = await inside.open({ path: '/dev/fuse', flags: 'O_RDWR' });
    const options = `fd=${fd},rootmode=40000,user_id=3,group_id=4`;
    const none = { source: 'by-hand', type: 'fuse', options: options.replace('=3', `=${OUTSIDE + 3}`) };
    t.is(await guest.mountErrno(none, inside), 'EINVAL', 'an owner as it is known outside');
    await using mount = await guest.mount({ source: 'by-hand', type: 'fuse', options }, inside);
    t.is((await mountedAt(inside, mount.path)).options, 'rw,user_id=3,group_id=4', 'in the namespace');
    const table = text(await root.readFile({ path: `/proc/${inside.pid}/mounts` }));
    const line = table.split('\n').find((each) => each.includes(mount.path));
    t.regex(line ?? '', /user_id=3,group_id=4/, 'outside');
  },
);

guestTest(
  'the group of a mount is looked for among the groups of its user namespace, not among the users',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await guest.client({ launcher: ['unshare', '--user', '--mount', '--keep-caps'] });
    await inside.getpid({});
    // No number is that of a user and of a group.
    for (const [map, line] of [
      ['uid_map', `0 ${OUTSIDE} ${IDS}`],
      ['gid_map', `100 ${OUTSIDE + IDS} ${IDS}`],
    ] as const) {
      await root.writeFile({ path: `/proc/${inside.pid}/${map}`, data: `${line}\n`, flags: 'O_WRONLY' });
    }
    const request = async (user: number, group: number): Promise<MountRequest> => {
      const fd = await inside.open({ path: '/dev/fuse', flags: 'O_RDWR' });
      const options = `fd=${fd},rootmode=40000,user_id=${user},group_id=${group}`;
      return { source: 'by-hand', type: 'fuse', options };
    };
    for (const [user, group, errno, what] of [
      [3, 3, 'EINVAL', 'a group by the number of a user'],
      [103, 103, 'EINVAL', 'a user by the number of a group'],
      [3, 103, 'ok', 'each by a number of its own'],
    ] as const) {
      t.is(await guest.mountErrno(await request(user, group), inside), errno, what);
    }
    await using mount = await guest.mount(await request(3, 103), inside);
    t.is((await mountedAt(inside, mount.path)).options, 'rw,user_id=3,group_id=103', 'which are shown');
  },
);
