import { aclFor } from '../lib/access-control-list.ts';
import { CAPABILITY, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import { guestTest } from '../lib/guest-test.ts';
import { idmapped, SHIFT, SHIFTED } from '../lib/idmapped.ts';
import { fill } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';
import { HEEDS_MODES } from '../lib/launchers.ts';

/** An overlay over an idmapped mount: what its owners may change, and what is told, by the numbers of that mount. */

const [OWNER, GROUP, NAMED] = [1500, 1600, 1700];
const ACCESS = 'system.posix_acl_access';
const READ = 4;

guestTest(
  'what only an owner may change of a file of an idmapped layer the owner by the numbers of the mount changes on the overlay (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['f', 'd/']);
    for (const name of ['f', 'd']) {
      await client.chown({ path: `${source}/${name}`, uid: OWNER, gid: GROUP });
      await client.chmod({ path: `${source}/${name}`, mode: 0o755 });
    }
    await using mapped = await idmapped(guest, client, source);
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...layers }, client);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    const list = { name: ACCESS, data: aclFor([NAMED], READ) };
    for (const [who, id, gives] of [
      ['who has the number below', { uid: OWNER, gid: GROUP }, 'EPERM'],
      ['the owner', { uid: SHIFT + OWNER, gid: SHIFT + GROUP }, 'ok'],
    ] as const) {
      await using caller = await guest.client();
      await caller.chdir({ path: overlay.path });
      await caller.setCredentials(id);
      const times = { atimeNs: 0, mtimeNs: 0 };
      t.is(await caller.errno.setxattr({ path: 'd', ...list }), gives, `${who}: a list`);
      t.is(await caller.errno.removexattr({ path: 'd', name: ACCESS }), gives, `${who}: no list`);
      t.is(await caller.errno.utimens({ path: 'f', ...times }), gives, `${who}: times`);
      t.is(await caller.errno.chmod({ path: 'f', mode: 0o700 }), gives, `${who}: a mode`);
      const copied = await client.readdir({ path: layers.upper });
      t.deepEqual(copied, gives === 'ok' ? ['d', 'f'] : [], `${who}: what is copied up`);
    }
  },
);

guestTest(
  'a list of a directory of an idmapped layer keeps its setgid bit for a member of the group that it has on the mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    const cases = [
      ['member', 'a member of the group', SHIFT + GROUP, true],
      ['other', 'a member of the group of the number below', GROUP, false],
    ] as const;
    for (const [name] of cases) {
      await client.mkdir({ path: `${source}/${name}` });
      await client.chown({ path: `${source}/${name}`, uid: OWNER, gid: GROUP });
      await client.chmod({ path: `${source}/${name}`, mode: 0o2755 });
    }
    await using mapped = await idmapped(guest, client, source);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...(await upperOn(guest)) }, client);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    for (const [path, who, gid, kept] of cases) {
      await using caller = await guest.client();
      await caller.chdir({ path: overlay.path });
      await caller.setCredentials({ uid: SHIFT + OWNER, gid });
      t.is(await caller.errno.setxattr({ path, name: ACCESS, data: aclFor([NAMED], READ) }), 'ok', who);
      const { mode } = await client.stat({ path: overlay.file(path) });
      t.is((mode & 0o2000) !== 0, kept, `${who}: the setgid bit`);
    }
  },
);

guestTest(
  'the capabilities of a program of an idmapped layer are on the overlay those of the root that they have on the mount (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['program']);
    await client.setxattr({ path: `${source}/program`, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
    await using mapped = await idmapped(guest, client, source);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...(await upperOn(guest)) }, client);
    const of = async (path: string) => new Uint8Array(await client.getxattr({ path, name: CAPABILITY }));
    const onMount = await of(`${mapped.path}/program`);
    t.deepEqual(await of(`${source}/program`), MAY_USE_RAW_SOCKETS, 'where it is stored: of any root');
    // `struct vfs_ns_cap_data`: the last word is the number of that root.
    t.is(Buffer.from(onMount).readUInt32LE(20), SHIFT, 'on the mount: of the root that it has there');
    t.deepEqual(await of(overlay.file('program')), onMount, 'on the overlay: as on the mount');
  },
);

/** Who owns the layers where they are stored; on the mount it is root. */
const STORED = 5000;

guestTest(
  'whiteouts in a private directory that belongs to who mounts by the numbers of an idmapped layer are none of its names',
  async (t, guest) => {
    await using client = await guest.client();
    await using mounter = await guest.client({ launcher: HEEDS_MODES });
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['top/', 'top/d/', 'top/d/above', 'base/', 'base/d/']);
    await fill(client, source, ['base/d/below', 'base/d/removed']);
    await client.mknod({ path: `${source}/top/d/removed`, mode: 0o020_000 });
    for (const name of ['top', 'base']) await client.chmod({ path: `${source}/${name}/d`, mode: 0o700 });
    await guest.run(['chown', '-R', `${STORED}:${STORED}`, source]);
    await using mapped = await idmapped(guest, client, source, { inside: STORED, outside: 0, count: 1 });
    // Without an upper layer: a work directory has the mode 0.
    const lower = [`${mapped.path}/top`, `${mapped.path}/base`];
    await using overlay = await guest.mountOverlay({ lower }, mounter);
    const path = overlay.file('d');
    t.is(await mounter.errno.stat({ path: `${source}/top/d/above` }), 'EACCES', 'where it is stored');
    t.deepEqual(await mounter.readdir({ path }), ['above', 'below'], 'what is listed');
    t.is(await mounter.errno.stat({ path: `${path}/removed` }), 'ENOENT', 'what was removed');
  },
);

guestTest(
  'a removed name leaves a whiteout where its directory in an idmapped layer is of an owner whom the mount has no number for',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    const layers = await upperOn(guest);
    for (const [name, uid] of [
      ['with', SHIFTED.count - 1],
      ['without', SHIFTED.count],
    ] as const) {
      for (const at of [source, layers.upper]) await client.mkdir({ path: `${at}/${name}` });
      await client.writeFile({ path: `${layers.upper}/${name}/f`, data: '' });
      await client.chown({ path: `${source}/${name}`, uid, gid: 0 });
      await client.chmod({ path: `${source}/${name}`, mode: 0o700 });
    }
    await using mapped = await idmapped(guest, client, source);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...layers }, client);
    for (const [name, left] of [
      ['with', []],
      ['without', ['f']],
    ] as const) {
      t.is(await client.errno.unlink({ path: overlay.file(`${name}/f`) }), 'ok', `an owner ${name} a number`);
      const names = await client.readdir({ path: `${layers.upper}/${name}` });
      t.deepEqual(names, left, `an owner ${name} a number: what may be below cannot be seen, or can`);
    }
  },
);
