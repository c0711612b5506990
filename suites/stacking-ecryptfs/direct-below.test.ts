import { firstDifference, pattern } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

const PAGE = 4096;

guestTest(
  'what ecryptfs keeps on a FUSE server without a cache is what it keeps on one with it',
  async (t, guest) => {
    await using client = await guest.client();
    const data = pattern(5 * PAGE + 100);
    for (const openFlags of [0, OpenFlag.DIRECT_IO]) {
      // The header of a file is two pages: more than one request has.
      const init = { ...WITHOUT_PASSTHROUGH, maxWrite: PAGE };
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, maxRead: PAGE });
      await fuse.answerOpen({ opcode: ['OPEN', 'CREATE'] }, { openFlags });
      const how = openFlags === 0 ? 'with a cache' : 'without';
      {
        await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
        const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
        t.is(await client.pwrite({ fd, data, offset: 0 }), data.length, how);
        await client.fsync({ fd });
        await client.close({ fd });
      }
      // Behind what the first page of it says a header is zeros, whatever request brought them.
      const header = (await client.readFile({ path: fuse.backing('f') })).subarray(0, 2 * PAGE);
      const second = header.subarray(PAGE);
      t.is(firstDifference(second, new Uint8Array(PAGE)), undefined, `${how}: the second page of the header`);
      t.not(
        firstDifference(header.subarray(0, PAGE), second),
        undefined,
        `${how}: it is not the first again`,
      );
      await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
      const seen = await client.readFile({ path: again.file('f') });
      t.is(firstDifference(seen, data), undefined, `${how}: mounted again`);
      const sizes = (await fuse.dataRequests()).map(({ args }) => Number(args['size']));
      t.is(Math.max(...sizes), PAGE, `${how}: the largest request`);
      const after = await fuse.position();
      const fd = await client.open({ path: again.file('f'), flags: 'O_RDWR' });
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      await client.pread({ fd, count: PAGE, offset: 2 * PAGE });
      await client.close({ fd });
      const reads = (await fuse.opcodes({ opcode: 'READ', after })).length;
      if (openFlags !== 0) t.true(reads > 0, 'each page is asked of the server');
    }
  },
);

guestTest('an error of a FUSE server without a cache is that of the call on ecryptfs', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await fuse.answerOpen({ opcode: ['OPEN', 'CREATE'] }, { openFlags: OpenFlag.DIRECT_IO });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
  t.is(await client.errno.fsync({ fd }), 'ok');
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const takeBack = await fuse.fail('WRITE', 'ENOSPC');
  await client.mwrite({ map, offset: 100, data: pattern(100, 5) });
  t.is(await client.errno.fsync({ fd }), 'ENOSPC');
  await takeBack();
  await client.munmap({ map });
  await client.pwrite({ fd, data: pattern(PAGE, 7), offset: 0 });
  t.is(await client.errno.fsync({ fd }), 'ok', 'the next time');
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: ecryptfs.file('f') }), pattern(PAGE, 7)), undefined);
});
