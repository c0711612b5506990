import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

guestTest('passthrough through two FUSE filesystems bypasses both servers (E10)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using lower = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await using upper = await guest.mountFuse({ root: lower.path, init: { maxStackDepth: 2 } });

  const data = pattern(40_000);
  await client.writeFile({ path: upper.file('f'), data });
  const fd = await client.open({ path: upper.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: data.subarray(0, 100), offset: 20_000 });
  data.copyWithin(20_000, 0, 100);
  const map = await client.mmap({ fd, length: 40_000, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.is(firstDifference(await client.pread({ fd, count: 50_000, offset: 0 }), data), undefined, 'read');
  t.is(firstDifference(await client.mread({ map, offset: 0, length: 40_000 }), data), undefined, 'mapping');
  await client.munmap({ map });
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: lower.backing('f') }), data), undefined, 'on ext4');
  t.deepEqual(await upper.dataRequests(), [], 'the upper server');
  t.deepEqual(await lower.dataRequests(), [], 'the lower server');
});

guestTest('a third FUSE filesystem cannot register a file of the second (E10)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using first = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await using second = await guest.mountFuse({ root: first.path, init: { maxStackDepth: 2 } });
  await using third = await guest.mountFuse({ root: second.path, init: { maxStackDepth: 2 } });
  await client.writeFile({ path: first.backing('f'), data: 'at the bottom' });

  const from = (path: string) => ({ path, flags: 'O_RDWR' });
  const fits = depthInWords('backing file on FUSE', 1);
  t.is(await third.server.registerErrno(from(first.file('f'))), 'ok', fits);
  const message = depthInWords('backing file on FUSE over FUSE', 2);
  t.is(await third.server.registerErrno(from(second.file('f'))), guest.expected.tooDeep, message);
});

guestTest('FUSE without passthrough counts 0 as a backing filesystem (E12)', async (t, guest) => {
  await using client = await guest.client();
  await using plain = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using fuse = await guest.mountFuse({ root: plain.path, init: { maxStackDepth: 1 } });
  const data = pattern(6000);
  await client.writeFile({ path: plain.backing('f'), data });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const message = depthInWords('backing file on FUSE without passthrough', 0, 1);
  t.is(firstDifference(await client.pread({ fd, count: 9000, offset: 0 }), data), undefined, message);
  await client.pwrite({ fd, data: 'changed', offset: 3000 });
  data.set(new TextEncoder().encode('changed'), 3000);
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: plain.backing('f') }), data), undefined);
  t.deepEqual(await fuse.dataRequests(), [], 'the upper server is passed by');
  t.deepEqual([...new Set(await plain.opcodes({ opcode: ['READ', 'WRITE'] }))].sort(), ['READ', 'WRITE']);
});
