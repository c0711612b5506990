import { aclFor } from '../lib/access-control-list.ts';
import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** What symbolic links and fifos of an overlay have as its files have it: times, owners, attributes and lists. */

const STRANGER = 4000;
const LONG_AGO_NS = 1_500_000_000_000_000_000;

guestTest(
  'reading a symbolic link or a fifo on an overlay changes the access time of the upper one',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await client.symlink({ path: `${lower}/low-link`, target: 'nowhere' });
    await client.symlink({ path: `${upper}/link`, target: 'nowhere' });
    await client.mknod({ path: `${upper}/fifo`, mode: 0o010_600 });
    const paths = [`${lower}/low-link`, `${upper}/link`, `${upper}/fifo`];
    await guest.run(['touch', '-h', '-a', '-d', `@${LONG_AGO_NS / 1e9}`, ...paths]);
    const accessed = async (path: string) => (await client.lstat({ path })).atimeNs;
    for (const path of paths) t.is(await accessed(path), LONG_AGO_NS, `${path}: before`);
    await using overlay = await over(guest, client, layers);
    for (const name of ['low-link', 'link']) {
      t.is(await client.readlink({ path: overlay.file(name) }), 'nowhere');
    }
    const fd = await client.open({ path: overlay.file('fifo'), flags: 'O_RDWR' });
    await client.write({ fd, data: 'x' });
    t.is(text(await client.read({ fd, count: 1 })), 'x');
    await client.close({ fd });
    t.is(await accessed(`${lower}/low-link`), LONG_AGO_NS, 'a lower link has its own as before');
    for (const name of ['link', 'fifo']) t.not(await accessed(`${upper}/${name}`), LONG_AGO_NS, name);
  },
);

guestTest(
  'a fifo of an overlay has attributes and access control lists as files have (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_600 });
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    const opens = () => stranger.errno.open({ path: 'fifo', flags: 'O_RDWR|O_NONBLOCK' });

    const path = overlay.file('fifo');
    t.is(await opens(), 'EACCES', 'a fifo of root alone');
    const list = { path, name: 'system.posix_acl_access', data: aclFor([STRANGER], 6) };
    t.is(await client.errno.setxattr(list), 'ok');
    t.deepEqual(new Uint8Array(await client.getxattr({ path, name: list.name })), list.data, 'it is told');
    t.is(await opens(), 'ok', 'with a list that names the stranger');
    await client.setxattr({ path, name: 'trusted.word', data: 'value' });
    const names = await client.listxattr({ path });
    t.deepEqual(names.toSorted(), [list.name, 'trusted.word'], 'without marks of the overlay');
    const above = await client.listxattr({ path: `${upper}/fifo` });
    t.true(above.includes('trusted.overlay.origin'), 'which the upper one has');
  },
);

guestTest('a symbolic link of an overlay has owner and times of its own', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['target']);
  await client.symlink({ path: `${lower}/link`, target: 'target' });
  const before = await client.stat({ path: `${lower}/target` });
  await using overlay = await over(guest, client, layers);
  await guest.run(['chown', '-h', `${STRANGER}:${STRANGER}`, overlay.file('link')]);
  await guest.run(['touch', '-h', '-m', '-d', `@${LONG_AGO_NS / 1e9}`, overlay.file('link')]);
  for (const at of [overlay.path, upper]) {
    const { uid, gid, mtimeNs } = await client.lstat({ path: `${at}/link` });
    t.deepEqual([uid, gid, mtimeNs], [STRANGER, STRANGER, LONG_AGO_NS], `the link in ${at}`);
  }
  const { uid, mtimeNs } = await client.stat({ path: overlay.file('target') });
  t.deepEqual([uid, mtimeNs], [0, before.mtimeNs], 'what it leads to is as it was');
});

guestTest('a directory of an overlay is not read as a file is, and not written', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  for (const layer of layers) await fill(client, layer, ['d/']);
  await fill(client, layers[0] ?? '', ['low/']);
  await using overlay = await over(guest, client, layers);
  for (const name of ['d', 'low']) {
    const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.read({ fd, count: 10 }), 'EISDIR', `${name}: read`);
    t.is(
      await client.errno.open({ path: overlay.file(name), flags: 'O_RDWR' }),
      'EISDIR',
      `${name}: written`,
    );
    await client.close({ fd });
  }
});
