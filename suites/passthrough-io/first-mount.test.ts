import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

// Machines are copies of one on which FUSE was mounted before: what happens only the first time is seen here.

guestTest.cold('the first FUSE filesystem of a kernel is in passthrough mode', async (t, guest) => {
  const { stdout: log } = await guest.run(['dmesg']);
  t.false(log.includes('restored from a saved machine'), 'this machine has booted');
  const { stdout: mounts } = await guest.run(['cat', '/proc/mounts']);
  t.false(mounts.includes(' fuse '), 'nothing has been mounted');

  await using client = await guest.client();
  for (const limit of ['max_user_bgreq', 'max_user_congthresh']) {
    const value = text(await client.readFile({ path: `/sys/module/fuse/parameters/${limit}` }));
    t.true(Number(value) > 0, `${limit}, which is of the size of memory, is ${value.trim()}`);
  }

  await using fuse = await guest.mountFuse();
  await client.writeFile({ path: fuse.file('f'), data: 'first' });
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'first');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'first');
  t.deepEqual(await fuse.dataRequests(), []);
});
