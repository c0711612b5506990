import { join } from 'node:path';
import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest, type OverlayOptions } from '../lib/stacked-mount.ts';

/** What the options of an overlay mean, and which do not go together (filesystems/overlayfs.rst). */

/** EINVAL, or what a second mount has then: the first one of new layers may show that it has given them a number. */
async function outcomeOf(guest: TestGuest, client: Client, how: OverlayOptions): Promise<string[] | string> {
  const errno = await guest.mountErrno(overlayRequest(how), client);
  if (errno !== 'ok') return errno;
  await using overlay = await guest.mountOverlay(how, client);
  return await overlayOptionsAt(client, overlay.path);
}

/** By options that are given: the errno, or the options that are in effect. Upper layer on the lower one's ext4. */
const WITH_UPPER: Readonly<Record<string, string | readonly string[]>> = {
  '': [],
  'metacopy=on,redirect_dir=on': ['redirect_dir=on', 'metacopy=on'],
  'redirect_dir=on': ['redirect_dir=on'],
  'redirect_dir=nofollow': ['redirect_dir=nofollow'],
  'index=on': ['index=on'],
  'nfs_export=on': ['index=on', 'nfs_export=on'],
  default_permissions: ['default_permissions'],
  'metacopy=on,redirect_dir=off': 'EINVAL',
  'metacopy=on,redirect_dir=nofollow': 'EINVAL',
  'nfs_export=on,index=off': 'EINVAL',
  'nfs_export=on,metacopy=on': 'EINVAL',
  'userxattr,redirect_dir=on': 'EINVAL',
  'userxattr,metacopy=on': 'EINVAL',
  'redirect_dir=sideways': 'EINVAL',
  'index=perhaps': 'EINVAL',
  no_such_option: 'EINVAL',
};

guestTest('options of an overlay take others with them, or exclude them', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  // Linux 6.1 has redirect_dir on then as well, and does not show it.
  const withMetacopy = guest.expected.overlaysWithDataLayers
    ? ['redirect_dir=on', 'metacopy=on']
    : ['metacopy=on'];
  const table = { ...WITH_UPPER, 'metacopy=on': withMetacopy };
  for (const [options, expected] of Object.entries(table)) {
    const how = { lower, ...(await upperOn(guest)), ...(options === '' ? {} : { options }) };
    t.deepEqual(await outcomeOf(guest, client, how), expected, options);
  }
});

guestTest('an overlay without an upper layer has no use for what is about one', async (t, guest) => {
  await using client = await guest.client();
  const lower = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
  const plain = await outcomeOf(guest, client, { lower });
  for (const options of ['index=on', 'volatile', 'index=on,nfs_export=on']) {
    t.deepEqual(await outcomeOf(guest, client, { lower, options }), plain, options);
  }
  const { upper, work } = await upperOn(guest);
  t.deepEqual(await outcomeOf(guest, client, { lower, work }), plain, 'workdir');
  t.is(await outcomeOf(guest, client, { lower, upper }), 'EINVAL', 'an upper layer without workdir');
  const [only = ''] = lower;
  t.is(await outcomeOf(guest, client, { lower: only }), 'EINVAL', 'nothing but one layer');
  await using overlay = await guest.mountOverlay({ lower }, client);
  t.is(await client.errno.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' }), 'EROFS');
  t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS');
  await overlay.unmount();
  await using writable = await guest.mountOverlay({ lower, upper, work }, client);
  t.is(await client.errno.mkdir({ path: writable.file('d') }), 'ok');
});

guestTest(
  'an overlay that was volatile is not mounted again before somebody has looked',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    {
      await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'volatile' }, client);
      await client.writeFile({ path: overlay.file('f'), data: 'perhaps lost' });
    }
    for (const options of ['volatile', 'index=off']) {
      const after = (await guest.kernelLog()).at(-1)?.seq;
      const errno = await guest.mountErrno(overlayRequest({ lower, ...layers, options }), client);
      t.is(errno, 'EINVAL', options);
      const said = (await guest.kernelLog(after)).map(({ text }) => text);
      const reason = "overlayfs: overlay with incompat feature 'volatile' cannot be mounted";
      t.deepEqual(
        said.filter((line) => line.includes('incompat')),
        [reason],
        `${options}: why`,
      );
    }
    // The mark is a directory with a file in it.
    const marks = join(layers.work, 'work', 'incompat');
    const kindOf = async (path: string) => ((await client.lstat({ path })).mode & 0o170_000).toString(8);
    t.is(await kindOf(join(marks, 'volatile')), '40000');
    t.is(await kindOf(join(marks, 'volatile', 'dirty')), '100000');
    for (const path of [join(marks, 'volatile', 'dirty'), join(marks, 'volatile'), marks]) {
      if ((await client.errno.unlink({ path })) !== 'ok') await client.rmdir({ path });
    }
    t.is(await guest.mountErrno(overlayRequest({ lower, ...layers }), client), 'ok', 'the mark is gone');
  },
);

/** Device and number of each, which have more bits than a double holds. */
async function numbersOf(
  guest: TestGuest,
  paths: readonly string[],
): Promise<{ dev: string; ino: string }[]> {
  const { stdout } = await guest.run(['stat', '--format=%d %i', ...paths]);
  return stdout
    .trim()
    .split('\n')
    .map((line) => ({ dev: line.split(' ')[0] ?? '', ino: line.split(' ')[1] ?? '' }));
}

guestTest('with xino=on files of both layers have one device, and numbers of their own', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const look = async (options: string) => {
    for (const name of ['low', 'copied']) await client.writeFile({ path: `${lower}/${name}`, data: 'low' });
    const layers = await upperOn(guest, 'tmpfs');
    await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
    await client.writeFile({ path: overlay.file('new'), data: 'new' });
    const paths = ['low', 'copied', 'new'].map((name) => overlay.file(name));
    const before = await numbersOf(guest, [overlay.path, ...paths]);
    await client.writeFile({ path: overlay.file('copied'), data: 'up', flags: 'O_WRONLY' });
    t.deepEqual(await numbersOf(guest, [overlay.path, ...paths]), before, `${options}: copied up`);
    return before;
  };
  const files = await look('xino=on');
  const [native] = await numbersOf(guest, [`${lower}/low`]);
  t.is(new Set(files.map(({ dev }) => dev)).size, 1, 'one device');
  t.is(new Set(files.map(({ ino }) => ino)).size, files.length, 'each a number of its own');
  t.not(files[1]?.ino, native?.ino, 'and the layer is in the number');
  const without = await look('xino=off');
  t.is(new Set(without.map(({ dev }) => dev)).size, 3, 'without it the layers have devices');
  t.is(without[1]?.ino, native?.ino, 'and their own numbers');
});

guestTest('with userxattr the marks of an overlay are attributes of users', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await client.mkdir({ path: `${lower}/d` });
  await client.writeFile({ path: `${lower}/d/hidden`, data: 'low' });
  const layers = await upperOn(guest);
  for (const [options, mark, other] of [
    ['userxattr', 'user.overlay.opaque', 'trusted.overlay.opaque'],
    ['', 'trusted.overlay.opaque', 'user.overlay.opaque'],
  ] as const) {
    await client.mkdir({ path: `${layers.upper}/d` });
    await client.setxattr({ path: `${layers.upper}/d`, name: mark, data: 'y' });
    const how = { lower, ...layers, ...(options === '' ? {} : { options }) };
    {
      await using overlay = await guest.mountOverlay(how, client);
      t.deepEqual(await client.readdir({ path: overlay.file('d') }), [], `${mark} counts`);
      t.deepEqual(await client.listxattr({ path: overlay.file('d') }), [], 'and is not shown');
      await client.rmdir({ path: overlay.file('d') });
      await client.mkdir({ path: overlay.file('d') });
    }
    t.is(text(await client.getxattr({ path: `${layers.upper}/d`, name: mark })), 'y', 'and is made');
    t.is(await client.errno.getxattr({ path: `${layers.upper}/d`, name: other }), 'ENODATA');
    await client.rmdir({ path: `${layers.upper}/d` });
  }
});

guestTest('a layer of data alone has no names, and what points there is read', async (t, guest) => {
  if (!guest.expected.overlaysWithDataLayers) guest.skip('this kernel has no data-only lower layers');
  await using client = await guest.client();
  const data = await guest.directory('ext4', 'data');
  await client.mkdir({ path: `${data}/d` });
  await client.writeFile({ path: `${data}/d/contents`, data: 'of the data layer' });
  await client.writeFile({ path: `${data}/unnamed`, data: 'nobody points here' });
  const meta = await upperOn(guest);
  {
    const options = 'metacopy=on,redirect_dir=on';
    await using overlay = await guest.mountOverlay(
      { lower: data, upper: meta.upper, work: meta.work, options },
      client,
    );
    // To another directory: what stays in its directory says a name alone of where it was.
    await client.rename({ from: overlay.file('d/contents'), to: overlay.file('name') });
  }
  await client.unlink({ path: `${meta.upper}/d/contents` });
  await client.rmdir({ path: `${meta.upper}/d` });
  t.is(text(await client.readFile({ path: `${meta.upper}/name` })).replaceAll('\0', ''), '', 'no data there');

  const lower = `${meta.upper}::${data}`;
  {
    await using overlay = await guest.mountOverlay({ lower, options: 'metacopy=on' }, client);
    t.deepEqual(await client.readdir({ path: overlay.path }), ['name']);
    t.is(text(await client.readFile({ path: overlay.file('name') })), 'of the data layer');
    t.is(await client.errno.stat({ path: overlay.file('unnamed') }), 'ENOENT');
    t.like(await client.stat({ path: overlay.file('name') }), { size: 'of the data layer'.length });
  }
  {
    const second = `${meta.upper}::${await guest.directory('ext4', 'empty')}::${data}`;
    await using overlay = await guest.mountOverlay({ lower: second, options: 'metacopy=on' }, client);
    t.is(
      text(await client.readFile({ path: overlay.file('name') })),
      'of the data layer',
      'of the second one',
    );
  }
  await using overlay = await guest.mountOverlay(
    { lower, ...(await upperOn(guest)), options: 'metacopy=on' },
    client,
  );
  const fd = await client.open({ path: overlay.file('name'), flags: 'O_WRONLY|O_APPEND' });
  await client.write({ fd, data: ', and more' });
  await client.close({ fd });
  t.is(text(await client.readFile({ path: overlay.file('name') })), 'of the data layer, and more');
  t.is(text(await client.readFile({ path: `${data}/d/contents` })), 'of the data layer', 'as it was');
});

guestTest('with uuid=on an overlay has a number that it keeps', async (t, guest) => {
  if (!guest.expected.overlaysWithDataLayers) guest.skip('this kernel gives overlays no number');
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const mark = { path: layers.upper, name: 'trusted.overlay.uuid' };
  const numberOf = async (options: string) => {
    await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
    return (await client.statfs({ path: overlay.path })).fsid;
  };
  const below = (await client.statfs({ path: layers.upper })).fsid;
  t.is(await numberOf('uuid=null'), below, 'without: that of the upper filesystem');
  t.is(await client.errno.getxattr(mark), 'ENODATA');
  const first = await numberOf('uuid=on');
  t.not(first, below);
  t.is((await client.getxattr(mark)).length, 16, 'it is kept in the upper layer');
  t.is(await numberOf('uuid=on'), first, 'mounted again');
  t.is(await numberOf('uuid=auto'), first, 'and with auto');
  t.is(await numberOf('uuid=null'), below);
});

guestTest('a whiteout may be an attribute, in directories that say that they have some', async (t, guest) => {
  if (!guest.expected.overlaysWithDataLayers) guest.skip('to this kernel a whiteout is a device');
  await using client = await guest.client();
  const [top, base] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
  for (const layer of [top, base]) await client.mkdir({ path: `${layer}/d` });
  for (const name of ['hidden', 'shown']) await client.writeFile({ path: `${base}/d/${name}`, data: name });
  await client.writeFile({ path: `${top}/d/hidden`, data: '' });
  await client.setxattr({ path: `${top}/d/hidden`, name: 'trusted.overlay.whiteout', data: 'y' });
  const look = async () => {
    await using overlay = await guest.mountOverlay({ lower: [top, base] }, client);
    const path = overlay.file('d/hidden');
    return {
      names: await client.readdir({ path: overlay.file('d') }),
      stat: await client.errno.stat({ path }),
    };
  };
  t.deepEqual((await look()).names, ['hidden', 'shown'], 'a list looks for none where it is not told to');
  await client.setxattr({ path: `${top}/d`, name: 'trusted.overlay.opaque', data: 'x' });
  t.deepEqual(await look(), { names: ['shown'], stat: 'ENOENT' }, 'the directory has whiteouts');
  await client.truncate({ path: `${top}/d/hidden`, length: 1 });
  t.deepEqual(await look(), { names: ['hidden', 'shown'], stat: 'ok' }, 'a whiteout has no contents');
});

guestTest('an overlay becomes writable by a remount only if it has an upper layer', async (t, guest) => {
  await using client = await guest.client();
  const lower = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
  const remount = async (target: string, flags: string, options = ''): Promise<string> =>
    client.errno.mount({ source: 'overlay', target, type: 'overlay', flags, options });
  {
    await using overlay = await guest.mountOverlay({ lower }, client);
    t.is(await remount(overlay.path, 'MS_REMOUNT'), 'EROFS', 'without one');
    t.is(await remount(overlay.path, 'MS_REMOUNT|MS_RDONLY'), 'ok', 'it stays read-only');
    t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS');
  }
  const layers = { lower, ...(await upperOn(guest)) };
  await using overlay = await guest.mountOverlay(layers, client);
  t.is(await remount(overlay.path, 'MS_REMOUNT|MS_RDONLY'), 'ok');
  t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS', 'remounted read-only');
  t.is(await remount(overlay.path, 'MS_REMOUNT'), 'ok');
  t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'ok', 'and writable again');
  // As mount(8) does it.
  const { options } = overlayRequest(layers);
  t.is(await remount(overlay.path, 'MS_REMOUNT|MS_RDONLY', options), 'ok', 'with the options that it has');
  t.is(await client.errno.mkdir({ path: overlay.file('e') }), 'EROFS', 'which is a remount like any other');
});

guestTest('a colon in the name of a lower layer is written with a backslash', async (t, guest) => {
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layers');
  for (const name of ['one:two', 'one', 'three']) {
    await client.mkdir({ path: join(at, name) });
    await client.writeFile({ path: join(at, name, name), data: name });
  }
  const lower = [String.raw`${at}/one\:two`, `${at}/three`];
  await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
  t.deepEqual(await client.readdir({ path: overlay.path }), ['one:two', 'three']);
});
