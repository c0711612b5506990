import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { parseQuiltSeries } from './quilt.ts';

test('quilt: comments, empty lines and -p options', (t) => {
  t.deepEqual(parseQuiltSeries('# top\n\n0001-a.patch\nsub/b.patch -p0 # why\nc.patch -p2 \n#d.patch\n'), [
    { file: '0001-a.patch', strip: 1 },
    { file: 'sub/b.patch', strip: 0 },
    { file: 'c.patch', strip: 2 },
  ]);
});

test('quilt: a blank after -p is no other option', (t) => {
  t.deepEqual(parseQuiltSeries('a.patch -p 0\nb.patch -pab\n'), [
    { file: 'a.patch', strip: 0 },
    { file: 'b.patch', strip: 1 },
  ]);
});

for (const option of ['-R', '-p1 -R', '-p12', '-q', 'more']) {
  test(`quilt: ${option} is refused, because it would change what is applied`, (t) => {
    const failure = t.throws(() => parseQuiltSeries(`a.patch\nb.patch ${option}\n`), { instanceOf: Failure });
    t.is(failure.code, 'E_SERIES_MALFORMED');
    t.true(failure.message.includes(`b.patch ${option}`));
  });
}
