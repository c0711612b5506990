import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';
import { idmapped, SHIFT } from '../lib/idmapped.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Access control lists on an overlay: who may set which, and what becomes of those of its layers. */

const [ACCESS, DEFAULT] = ['system.posix_acl_access', 'system.posix_acl_default'];
const [OWNER, STRANGER, NAMED, GROUP] = [1234, 4000, 1500, 1600];
const [READ, SEARCH] = [4, 1];

guestTest(
  'a list that a file of the lower layer has can be removed, and stays there (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f', 'd/']);
    const lists = [
      { name: 'f', list: ACCESS },
      { name: 'd', list: DEFAULT },
    ];
    for (const { name, list } of lists) {
      await client.setxattr({ path: `${lower}/${name}`, name: list, data: aclFor([NAMED], READ) });
    }
    await using overlay = await over(guest, client, layers);
    for (const { name, list } of lists) {
      t.is(await client.errno.removexattr({ path: overlay.file(name), name: list }), 'ok', name);
      for (const [at, errno] of [
        [overlay.path, 'ENODATA'],
        [upper, 'ENODATA'],
        [lower, 'ok'],
      ] as const) {
        t.is(await client.errno.getxattr({ path: `${at}/${name}`, name: list }), errno, `${name} in ${at}`);
      }
    }
  },
);

guestTest(
  'only its owner gives a file of an overlay a list, and only directories have default ones (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f', 'd/']);
    for (const name of ['f', 'd']) await client.chown({ path: `${lower}/${name}`, uid: OWNER, gid: OWNER });
    await using overlay = await over(guest, client, layers);
    const as = async (uid: number) => {
      const who = await guest.client();
      await who.chdir({ path: overlay.path });
      await who.setCredentials({ uid, gid: uid });
      return who;
    };
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using owner = await as(OWNER);
    await using stranger = await as(STRANGER);
    const data = aclFor([NAMED], READ);
    for (const [path, name] of [
      ['f', ACCESS],
      ['d', ACCESS],
      ['d', DEFAULT],
    ] as const) {
      t.is(await stranger.errno.setxattr({ path, name, data }), 'EPERM', `a stranger: ${name} of ${path}`);
      t.is(await stranger.errno.removexattr({ path, name }), 'EPERM', `a stranger: no ${name} of ${path}`);
    }
    t.is(
      await owner.errno.setxattr({ path: 'f', name: DEFAULT, data }),
      'EACCES',
      'a default list of a file',
    );
    t.is(await owner.errno.removexattr({ path: 'f', name: DEFAULT }), 'ok', 'no default list of a file');
    t.deepEqual(await client.readdir({ path: upper }), [], 'nothing is copied up for that');
    for (const [path, name] of [
      ['f', ACCESS],
      ['d', DEFAULT],
    ] as const) {
      t.is(await owner.errno.setxattr({ path, name, data }), 'ok', `its owner: ${name} of ${path}`);
    }
  },
);

guestTest(
  'the setgid bit stays with a list from a member of the group, or by root, and with a default list (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const names = ['of-member', 'of-further-member', 'of-root', 'of-other'];
    for (const name of names) {
      await client.mkdir({ path: `${lower}/${name}` });
      await client.chown({ path: `${lower}/${name}`, uid: OWNER, gid: STRANGER });
      await client.chmod({ path: `${lower}/${name}`, mode: 0o2770 });
    }
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    const setsList = async (path: string, gid: number, name: string, groups?: number[]) => {
      await using who = await guest.client();
      await who.chdir({ path: overlay.path });
      await who.setCredentials({ uid: OWNER, gid, ...(groups && { groups }) });
      return await who.errno.setxattr({ path, name, data: aclFor([NAMED], READ) });
    };
    const setgid = async (name: string) =>
      ((await client.stat({ path: `${upper}/${name}` })).mode & 0o2000) !== 0;
    t.is(await setsList('of-member', STRANGER, ACCESS), 'ok');
    t.true(await setgid('of-member'), 'from a member');
    t.is(await setsList('of-further-member', OWNER, ACCESS, [STRANGER]), 'ok');
    t.true(await setgid('of-further-member'), 'from who has the group besides another one');
    t.is(
      await client.errno.setxattr({
        path: overlay.file('of-root'),
        name: ACCESS,
        data: aclFor([NAMED], READ),
      }),
      'ok',
    );
    t.true(await setgid('of-root'), 'by root');
    t.is(await setsList('of-other', OWNER, DEFAULT), 'ok');
    t.true(await setgid('of-other'), 'a default list');
    t.is(await setsList('of-other', OWNER, ACCESS), 'ok');
    t.false(await setgid('of-other'), 'from who is not in the group');
  },
);

guestTest(
  'lists of a layer with other numbers for users are told, heeded and copied up with those of the mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['f', 'g']);
    for (const name of ['f', 'g']) {
      await client.chmod({ path: `${source}/${name}`, mode: 0o600 });
      await client.setxattr({ path: `${source}/${name}`, name: ACCESS, data: aclFor([NAMED], READ) });
    }
    await using mapped = await idmapped(guest, client, source);
    const lower = mapped.path;
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    const told = aclFor([SHIFT + NAMED], READ);
    const listOf = async (path: string) => new Uint8Array(await client.getxattr({ path, name: ACCESS }));
    const reads = async (uid: number) => {
      await using who = await guest.client();
      await who.chdir({ path: overlay.path });
      await who.setCredentials({ uid, gid: uid });
      return await who.errno.readFile({ path: 'f' });
    };
    t.deepEqual(await listOf(`${source}/f`), aclFor([NAMED], READ), 'in the layer');
    t.deepEqual(await listOf(overlay.file('f')), told, 'on the overlay');
    t.deepEqual([await reads(SHIFT + NAMED), await reads(NAMED)], ['ok', 'EACCES'], 'who may read');
    await client.utimens({ path: overlay.file('g'), atimeNs: 'now', mtimeNs: 'now' });
    t.deepEqual(await listOf(`${layers.upper}/g`), told, 'copied up');
    t.deepEqual(await listOf(`${source}/g`), aclFor([NAMED], READ), 'and in the layer still');
  },
);

guestTest(
  'a directory of a layer with other numbers is searched by the users and groups that its list names there (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['d/', 'd/f']);
    const data = aclFor([NAMED], SEARCH, [GROUP]);
    await client.setxattr({ path: `${source}/d`, name: ACCESS, data });
    await using mapped = await idmapped(guest, client, source);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...(await upperOn(guest)) }, client);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    const searches = async (uid: number, gid: number) => {
      await using who = await guest.client();
      await who.chdir({ path: overlay.path });
      await who.setCredentials({ uid, gid });
      // What a list says is asked for once, and then known without asking.
      return [await who.errno.lstat({ path: 'd/f' }), await who.errno.lstat({ path: 'd/f' })];
    };
    const [may, mayNot] = [
      ['ok', 'ok'],
      ['EACCES', 'EACCES'],
    ];
    t.deepEqual(await searches(SHIFT + NAMED, STRANGER), may, 'the user');
    t.deepEqual(await searches(STRANGER, SHIFT + GROUP), may, 'the group');
    t.deepEqual(await searches(NAMED, STRANGER), mayNot, 'whose number the user has below');
    t.deepEqual(await searches(STRANGER, GROUP), mayNot, 'whose number the group has below');
  },
);

guestTest(
  'a list that a server of a layer keeps is told on the overlay, and heeded there if that server lets the kernel heed lists (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const data = aclFor([NAMED], READ);
    for (const [what, init, reads] of [
      ['a server that has POSIX_ACL', { ...WITHOUT_PASSTHROUGH, addFlags: ['POSIX_ACL'] }, 'ok'],
      ['a server without POSIX_ACL', WITHOUT_PASSTHROUGH, 'EACCES'],
    ] as const) {
      await using stack = await lowerOnFuse(guest, client, { init });
      const { fuse, overlay } = stack;
      await client.setxattr({ path: fuse.backing('f'), name: ACCESS, data });
      await client.chmod({ path: overlay.path, mode: 0o755 });
      const told = new Uint8Array(await client.getxattr({ path: overlay.file('f'), name: ACCESS }));
      t.deepEqual(told, data, `${what}: the list is told`);
      await using named = await guest.client();
      await named.chdir({ path: overlay.path });
      await named.setCredentials({ uid: NAMED, gid: NAMED });
      t.is(await named.errno.open({ path: 'f', flags: 'O_RDONLY' }), reads, `${what}: who is named reads`);
    }
  },
);
