/* The state of an encoder, shared by encoder.c (life), bow.c (embedding bag) and residual.c. Private to src/encoder. */
#ifndef HR_ENCODER_INTERNAL_H
#define HR_ENCODER_INTERNAL_H

#include "backend/backend.h"
#include "encoder/encoder.h"

/* A parameter array with its gradient and moments (NULL when not training); v has one number for each weight (Adam) or row (AdaGrad, m
 * NULL). */
typedef struct hr_param {
    const char *name;
    int64_t rows, cols;
    float *w, *grad, *m, *v;
    bool decays;
} hr_param;

enum { HR_PARAM_W1, HR_PARAM_B1, HR_PARAM_W2, HR_PARAM_B2, HR_RESIDUAL_PARAMS };

struct hr_encoder {
    hr_backend be;
    hr_encoder_options o;
    hr_param embedding; /* (F, D); its gradient is never stored */
    hr_param residual[HR_RESIDUAL_PARAMS];
    bool owns;
    /* of the last forward, (max_batch, D) each */
    float *h0, *hidden, *h, *tmp;
    float *inv_norm;    /* (max_batch) */
    float *panels;      /* (threads, 2, D, HRK_BP) */
    /* waiting for the update: gradients of h0 of all micro-steps, and the features they go to */
    float *dh0;         /* (accumulate * max_batch, D) */
    int64_t pending_rows, pending;
    uint64_t *keys, *keys_tmp; /* feature << 32 | entry */
    uint32_t *entry_row;       /* row of dh0 */
    float *entry_value;
    int64_t *group;     /* starts of equal features in keys */
    float *worker_row;  /* (threads, D) */
    /* identity: X of the last forward */
    hr_sparse_rows sparse;
    int64_t *indptr;    /* (max_batch + 1) */
    float *values;      /* (room) */
    int64_t room;
};

/* Value of feature j of an instance after feature dropout; 0: left out. */
float hr_bow_value(const hr_encoder *e, const hr_encoder_batch *batch, int64_t row, int64_t entry, bool train, uint64_t step);
void hr_bow_forward(hr_encoder *e, const hr_encoder_batch *batch, bool train, uint64_t step);
/* Remembers dh (B, D), the gradient of h0, and where it goes. */
void hr_bow_backward(hr_encoder *e, const hr_encoder_batch *batch, uint64_t step, const float *dh);
void hr_bow_update(hr_encoder *e, float lr, hrk_adam_args args);

hr_status hr_identity_create(hr_encoder *e);
hr_status hr_identity_forward(hr_encoder *e, const hr_encoder_batch *batch, bool train, uint64_t step);
size_t hr_identity_memory(const hr_encoder_options *o);

/* h = h0 + W2 relu(W1 h0 + b1) + b2. */
void hr_residual_forward(hr_encoder *e, int64_t rows);
/* dh (B, D): gradient of h on entry, of h0 on return; parameter gradients are added. */
void hr_residual_backward(hr_encoder *e, int64_t rows, float *dh);

#endif
