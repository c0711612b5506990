import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

const PAGE = 4096;

// The kernel is gone when it fails: known failure 0041.
guestTest.alone(
  'what is stored through a mapping of a file that ecryptfs shows as it is comes to the lower one',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'plain');
    await client.writeFile({ path: `${lower}/f`, data: 'plain' });
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_passthrough'] });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const how = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    const map = await client.mmap({ fd, ...how });
    await client.mwrite({ map, offset: 0, data: 'PLAIN' });
    t.is(await client.errno.msync({ map, flags: 'MS_SYNC' }), 'ok', 'msync');
    t.is(text(await client.readFile({ path: `${lower}/f` })), 'PLAIN', 'what is below');
    await client.munmap({ map });
    await client.close({ fd });
  },
);
