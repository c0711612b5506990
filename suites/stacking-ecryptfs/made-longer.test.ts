import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

guestTest(
  'behind the end of a file on ecryptfs that a truncation made longer are zeros, whatever was there (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
    await client.pwrite({ fd, data: pattern(100), offset: 0 });
    const how = { fd, length: 2 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    const map = await client.mmap(how);
    await client.mwrite({ map, offset: 3000, data: bytes('stored behind the end') });
    // To the same page, behind which something was stored, and to another one, of which there was nothing.
    for (const length of [2001, PAGE + 100]) {
      await client.ftruncate({ fd, length });
      const end = Math.ceil(length / PAGE) * PAGE;
      const behind = await client.mread({ map, offset: length, length: end - length });
      t.is(firstDifference(behind, new Uint8Array(end - length)), undefined, `behind ${length} bytes`);
    }
    const expected = new Uint8Array(PAGE + 100);
    expected.set(pattern(100));
    t.is(firstDifference(await client.pread({ fd, count: 2 * PAGE, offset: 0 }), expected), undefined);
    await client.munmap({ map });
    await client.close({ fd });
  },
);
