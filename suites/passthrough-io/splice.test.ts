import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest('splice from a file to a pipe takes any offset and stops at the end (A21)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(10_000);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fdIn = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const [end, fdOut] = await client.pipe({});

  const steps = [
    { offIn: 100, length: 5000, moved: 5000 },
    { offIn: 9990, length: 100, moved: 10 },
    { offIn: 10_000, length: 100, moved: 0 },
  ];
  for (const { offIn, length, moved } of steps) {
    t.is(await client.splice({ fdIn, offIn, fdOut, length }), moved, `${length} bytes from ${offIn}`);
    if (moved === 0) continue;
    const back = await client.read({ fd: end, count: moved });
    t.is(firstDifference(back, data.subarray(offIn, offIn + moved)), undefined, `contents from ${offIn}`);
  }
  t.is(
    await client.lseek({ fd: fdIn, offset: 0, whence: 'SEEK_CUR' }),
    0,
    'offsets leave the position alone',
  );
  t.is(await client.splice({ fdIn, fdOut, length: 7 }), 7);
  t.is(await client.lseek({ fd: fdIn, offset: 0, whence: 'SEEK_CUR' }), 7, 'without one it moves');
  for (const fd of [fdIn, end, fdOut]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('splice from a pipe to a file takes offsets and what there is (A22)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const fdOut = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data: 'abcdefgh' });

  t.is(await client.splice({ fdIn, fdOut, offOut: 3, length: 4 }), 4);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), '012abcd789');
  t.is(await client.splice({ fdIn, fdOut, offOut: 9, length: 100 }), 4, 'a short one: no more in the pipe');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), '012abcd78efgh');
  t.is((await client.fstat({ fd: fdOut })).size, 13, 'the size is right at once');
  await client.write({ fd: end, data: 'XY' });
  t.is(await client.splice({ fdIn, fdOut, length: 2 }), 2);
  t.is(await client.lseek({ fd: fdOut, offset: 0, whence: 'SEEK_CUR' }), 2, 'without an offset it moves');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'XY2abcd78efgh');
  for (const fd of [fdIn, end, fdOut]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('tee and a second splice give the same bytes twice (A23)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(6000);
  await client.writeFile({ path: fuse.backing('from'), data });
  const from = await client.open({ path: fuse.file('from'), flags: 'O_RDONLY' });
  const one = await client.open({ path: fuse.file('one'), flags: 'O_WRONLY|O_CREAT' });
  const two = await client.open({ path: fuse.file('two'), flags: 'O_WRONLY|O_CREAT' });
  const [first, second] = [await client.pipe({}), await client.pipe({})];

  t.is(await client.splice({ fdIn: from, fdOut: first[1], length: 6000 }), 6000);
  t.is(await client.tee({ fdIn: first[0], fdOut: second[1], length: 6000 }), 6000);
  t.is(await client.splice({ fdIn: first[0], fdOut: one, length: 6000 }), 6000);
  t.is(await client.splice({ fdIn: second[0], fdOut: two, length: 6000 }), 6000);
  for (const fd of [from, one, two, ...first, ...second]) await client.close({ fd });
  for (const name of ['one', 'two']) {
    t.is(firstDifference(await client.readFile({ path: fuse.backing(name) }), data), undefined, name);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('sendfile works from, to and between passthrough files (A23)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(20_000);
  const elsewhere = await guest.directory('tmpfs');
  const directions = [
    { from: fuse.file('a'), to: `${elsewhere}/a`, source: fuse.backing('a'), target: `${elsewhere}/a` },
    { from: `${elsewhere}/b`, to: fuse.file('b'), source: `${elsewhere}/b`, target: fuse.backing('b') },
    { from: fuse.file('c'), to: fuse.file('d'), source: fuse.backing('c'), target: fuse.backing('d') },
  ];
  for (const { from, to, source, target } of directions) {
    await client.writeFile({ path: source, data });
    const fdIn = await client.open({ path: from, flags: 'O_RDONLY' });
    const fdOut = await client.open({ path: to, flags: 'O_WRONLY|O_CREAT' });
    t.is(await client.sendfile({ fdOut, fdIn, offset: 5000, count: 12_000 }), 12_000, `${from} to ${to}`);
    t.is(await client.sendfile({ fdOut, fdIn, offset: 17_000, count: 12_000 }), 3000, 'up to the end');
    await client.close({ fd: fdIn });
    await client.close({ fd: fdOut });
    t.is(firstDifference(await client.readFile({ path: target }), data.subarray(5000)), undefined, target);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});
