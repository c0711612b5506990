import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';

guestTest('the deepest of several lower layers counts, wherever it stands', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const [ext4, tmpfs] = [
    await guest.directory('ext4', 'low'),
    await guest.directory('tmpfs', 'low'),
  ] as const;
  await client.writeFile({ path: `${ext4}/f`, data: 'on ext4' });
  await using overlay = await guest.mountOverlay({ lower: [ext4, tmpfs] }, client);
  const control = { path: overlay.file('f'), flags: 'O_RDONLY' };
  const shallow = depthInWords('backing file on overlayfs with lowerdir=EXT4:TMPFS', 1);
  t.is(await fuse.server.registerErrno(control), 'ok', shallow);

  const mixes = [
    { name: 'OVERLAY:TMPFS', lower: [overlay.path, tmpfs] },
    { name: 'TMPFS:OVERLAY', lower: [tmpfs, overlay.path] },
  ];
  for (const { name, lower } of mixes) {
    await using mix = await guest.mountOverlay({ lower }, client);
    t.is(text(await client.readFile({ path: mix.file('f') })), 'on ext4', `lowerdir=${name} mounts: depth 2`);
    const what = `overlayfs with lowerdir=${name}`;
    const errno = await fuse.server.registerErrno({ path: mix.file('f'), flags: 'O_RDONLY' });
    t.is(errno, guest.expected.tooDeep, depthInWords(`backing file on ${what}`, 2));
    const above = overlayRequest({ lower: [mix.path, tmpfs] });
    t.is(await guest.mountErrno(above, client), 'EINVAL', depthInWords(`overlayfs over ${what}`, 2));
  }
});

guestTest('FUSE with passthrough counts among several lower layers, wherever it stands', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  const [ext4, tmpfs] = [
    await guest.directory('ext4', 'low'),
    await guest.directory('tmpfs', 'low'),
  ] as const;
  const mixes = [
    { name: 'FUSE:EXT4', lower: [fuse.path, ext4] },
    { name: 'EXT4:FUSE', lower: [ext4, fuse.path] },
  ];
  for (const { name, lower } of mixes) {
    await using mix = await guest.mountOverlay({ lower }, client);
    t.is(text(await client.readFile({ path: mix.file('f') })), 'served', `lowerdir=${name} mounts: depth 2`);
    const above = overlayRequest({ lower: [mix.path, tmpfs] });
    const message = depthInWords(`overlayfs over overlayfs with lowerdir=${name}`, 2);
    t.is(await guest.mountErrno(above, client), 'EINVAL', message);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('one layer of FUSE with max_stack_depth 2 is enough to refuse an overlay', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const [ext4, tmpfs] = [
    await guest.directory('ext4', 'low'),
    await guest.directory('tmpfs', 'low'),
  ] as const;
  t.is(
    await guest.mountErrno(overlayRequest({ lower: [ext4, tmpfs] }), client),
    'ok',
    'without FUSE it mounts',
  );
  const mixes = [
    { name: 'FUSE:EXT4', lower: [fuse.path, ext4] },
    { name: 'EXT4:FUSE:TMPFS', lower: [ext4, fuse.path, tmpfs] },
    { name: 'EXT4:FUSE', lower: [ext4, fuse.path] },
  ];
  for (const { name, lower } of mixes) {
    const message = depthInWords(`overlayfs with lowerdir=${name}`, 2);
    t.is(await guest.mountErrno(overlayRequest({ lower }), client), 'EINVAL', message);
  }
});
