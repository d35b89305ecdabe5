/* Numbers as text, in the "C" notation whatever the locale of the process: whole tokens only,
 * so "5x", "", " 5", "nan" and "inf" are refused. */
#ifndef HR_BASE_NUMBER_H
#define HR_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal, with an optional sign. False when `text` (length bytes) is anything else or does not fit. */
bool hr_parse_int(const char *text, size_t length, int64_t *out);
/* Digits, point, exponent; a finite double. At most 63 bytes. */
bool hr_parse_number(const char *text, size_t length, double *out);
/* The shortest of 15, 16 or 17 digits that reads back to the same double. */
void hr_format_number(double value, char *text, size_t bytes);

/* A number as text, by value: printf("%s", hr_number(x, 6).text). */
typedef struct hr_number_text {
    char text[32];
} hr_number_text;
/* printf's "%.*g" with so many digits, at most 17. Values that are not finite give "nan", "inf" or "-inf". */
hr_number_text hr_number(double value, int digits);

#endif
