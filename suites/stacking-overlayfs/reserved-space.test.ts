import { guestTest } from '../lib/guest-test.ts';

const MIB = 1024 * 1024;

guestTest(
  'an overlay does not use space that a filesystem has in reserve, whoever has mounted it',
  async (t, guest) => {
    // One half in reserve, for a user that nobody here is: root may use it by a capability alone.
    const how = { mkfs: ['-m', '50', '-b', '4096'], options: 'resuid=65534' };
    await using disk = await guest.spareDisk('ext4', how);
    await using client = await guest.client();
    const [lower, upper] = [await disk.directory('lower'), await disk.directory('upper')];
    const work = await disk.directory('work');
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    const { bavail, bsize } = await client.statfs({ path: disk.path });
    const more = { offset: 0, length: bavail * bsize + MIB };
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' });
    t.is(await client.errno.fallocate({ fd, ...more }), 'ENOSPC', 'root, on the overlay');
    const native = await client.open({ path: `${upper}/f`, flags: 'O_RDWR' });
    t.is(await client.errno.fallocate({ fd: native, ...more }), 'ok', 'root, past the overlay');
    for (const each of [fd, native]) await client.close({ fd: each });
  },
);
