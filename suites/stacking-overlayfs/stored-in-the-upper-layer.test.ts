import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';
import { idmapped } from '../lib/idmapped.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** What an overlay stores in its upper layer, and in the index beside it. */

/** What root on the mount is where it is stored; the users and groups after it follow. */
const STORED = 5000;
const [OWNER, GROUP, NAMED] = [1500, 1600, 1700];
const ACCESS = 'system.posix_acl_access';
const READ = 4;

guestTest(
  'owners, groups and lists on an overlay are stored in an idmapped upper layer by the numbers that its mount has for them (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower, source] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'source')];
    await fill(client, lower, ['copied', 'given']);
    await client.chown({ path: `${lower}/copied`, uid: OWNER, gid: GROUP });
    await fill(client, source, ['upper/', 'work/']);
    await guest.run(['chown', '-R', `${STORED}:${STORED}`, source]);
    await using mapped = await idmapped(guest, client, source, { inside: STORED, outside: 0, count: 2000 });
    const layers = { lower, upper: `${mapped.path}/upper`, work: `${mapped.path}/work` };
    await using overlay = await guest.mountOverlay(layers, client);
    t.is(await client.errno.mkdir({ path: overlay.file('made') }), 'ok', 'a directory is made');
    await client.utimens({ path: overlay.file('copied'), atimeNs: 'now', mtimeNs: 'now' });
    await client.chown({ path: overlay.file('given'), uid: OWNER, gid: GROUP });
    for (const [name, uid, gid] of [
      ['made', 0, 0],
      ['copied', OWNER, GROUP],
      ['given', OWNER, GROUP],
    ] as const) {
      const seen = await client.stat({ path: overlay.file(name) });
      t.deepEqual([seen.uid, seen.gid], [uid, gid], `${name}: on the overlay`);
      const stored = await client.stat({ path: `${source}/upper/${name}` });
      t.deepEqual([stored.uid, stored.gid], [STORED + uid, STORED + gid], `${name}: where it is stored`);
    }
    await client.setxattr({ path: overlay.file('given'), name: ACCESS, data: aclFor([NAMED], READ) });
    const stored = new Uint8Array(await client.getxattr({ path: `${source}/upper/given`, name: ACCESS }));
    t.deepEqual(stored, aclFor([STORED + NAMED], READ), 'the list where it is stored');
  },
);

guestTest(
  'files of several names alone have an entry in the index, with nfs_export whatever is copied up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['d/', 'd/e/', 'single', 'one']);
    await client.link({ from: `${lower}/one`, to: `${lower}/other` });
    for (const [options, indexed] of [
      ['index=on', 1],
      ['index=on,nfs_export=on,redirect_dir=on', 4],
    ] as const) {
      const layers = await upperOn(guest);
      await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
      for (const name of ['d', 'd/e', 'single', 'one']) {
        await client.chmod({ path: overlay.file(name), mode: 0o700 });
        t.is(await client.errno.lstat({ path: `${layers.upper}/${name}` }), 'ok', `${name} is copied up`);
      }
      const names = await client.readdir({ path: `${layers.work}/index` });
      // Without what is only in the making.
      t.is(names.filter((name) => !name.startsWith('#')).length, indexed, `${options}: entries in the index`);
    }
  },
);

guestTest(
  'what is made in a setgid directory has the group of that, where a name was removed as well',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const removed = ['file', 'fifo', 'link', 'directory'];
    await fill(client, lower, ['d/', ...removed.map((name) => `d/${name}`)]);
    await client.chown({ path: `${lower}/d`, uid: 0, gid: GROUP });
    await client.chmod({ path: `${lower}/d`, mode: 0o2777 });
    await using overlay = await over(guest, client, layers);
    await using caller = await guest.client();
    await caller.chdir({ path: overlay.file('d') });
    await caller.setCredentials({ uid: OWNER, gid: OWNER });
    for (const path of removed) await caller.unlink({ path });
    for (const fresh of ['', 'fresh-']) {
      await caller.mknod({ path: `${fresh}file`, mode: 0o100_644 });
      await caller.mknod({ path: `${fresh}fifo`, mode: 0o010_644 });
      await caller.symlink({ path: `${fresh}link`, target: 'nowhere' });
      await caller.mkdir({ path: `${fresh}directory` });
      for (const name of removed.map((each) => `d/${fresh}${each}`)) {
        for (const at of [overlay.path, upper]) {
          const { uid, gid } = await client.lstat({ path: `${at}/${name}` });
          t.deepEqual([uid, gid], [OWNER, GROUP], `owner and group of ${name}, ${at}`);
        }
      }
    }
  },
);
