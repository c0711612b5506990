import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest('a file of a filesystem on the spare disk is served in passthrough mode', async (t, guest) => {
  for (const type of ['ext4', 'xfs'] as const) {
    await using disk = await guest.spareDisk(type, { mapped: true });
    {
      await using fuse = await guest.mountFuse({ root: await disk.directory() });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.file('f'), data: `on ${type}` });
      t.is(text(await client.readFile({ path: fuse.backing('f') })), `on ${type}`);
      t.deepEqual(await fuse.dataRequests(), [], `no READ or WRITE with a backing file on ${type}`);
      t.is((await client.statfs({ path: disk.path })).type, type === 'xfs' ? 0x5846_5342 : 0xef53);
    }
    t.is(await disk.unmount(), 'ok', `nothing holds ${type} when the FUSE filesystem is gone`);
  }
});
